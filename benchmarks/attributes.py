"""J&F by attribute: python -m benchmarks.attributes RESULTS [RESULTS ...] [--json=FILE].

RESULTS are folders that `evaluate.py` wrote. An object has an attribute where its annotations have
it: the rules are those of DAVIS's (Perazzi et al., CVPR 2016, Table 1) that masks alone decide.
"""

import itertools

import cv2
import numpy as np
from absl import flags

from benchmarks import measuring
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation import protocols, results

COLUMNS = ('attribute', 'objects with it', 'J&F', 'objects without', 'J&F without')
SHIFT = 0.02  # of the diagonal: 20 pixels at 854x480


def attributes(masks, num_objects):
    """(Names of what is true of an object, all names).

    Args:
      masks: list of bool[H, W], one for each scored frame; some shows it.
      num_objects: of its video.
    """
    height, width = masks[0].shape
    shown = [cv2.boundingRect(mask.view(np.uint8)) for mask in masks if mask.any()]
    middles = [np.argwhere(mask).mean(axis=0) if mask.any() else None for mask in masks]
    shifts = [
        np.hypot(*(after - before))
        for before, after in itertools.pairwise(middles)
        if before is not None and after is not None
    ]
    areas = [box_width * box_height for _, _, box_width, box_height in shown]
    rules = {
        'fast motion: moves by over 2 % of the diagonal a frame': bool(shifts)
        and np.mean(shifts) > SHIFT * np.hypot(height, width),
        'scale variation: its box shrinks or grows by over half': min(areas) < 0.5 * max(areas),
        'low resolution: its box is below 10 % of the picture': np.mean(areas)
        < 0.1 * height * width,
        'out of view: reaches the border': any(
            x == 0 or y == 0 or x + box_width == width or y + box_height == height
            for x, y, box_width, box_height in shown
        ),
        'disappears in some frame': len(shown) < len(masks),
        'among other objects': num_objects > 1,
    }
    return [name for name, is_true in rules.items() if is_true], list(rules)


def table(folders):
    """Rows of the table over all objects of some results."""
    values, names = [], ()
    for folder in folders:
        found = results.read(folder)
        about = found.header
        protocol = protocols.load(about['protocol'], about['data'], about['split'])
        tasks = {task.name: task for task in protocol.tasks}
        for row in results.object_rows(found):
            task = tasks[row['sequence']]
            masks = [task.read_truth(stem) == row['id'] for stem in task.scored]
            if any(mask.any() for mask in masks):
                has, names = attributes(masks, len(task.ids))
                values.append((100 * row['J&F'], has))
    rows = []
    for name in names:
        groups = [[v for v, has in values if (name in has) == wanted] for wanted in (True, False)]
        cells = [(len(g), f'{np.mean(g):.1f}' if g else '') for g in groups]
        rows.append((name, *cells[0], *cells[1]))
    return rows


def main(argv):
    """Prints the table; writes it where a file is named."""
    if not argv[1:]:
        raise InputError('name the folder of an evaluation (evaluate.py --out)')
    rows = table(argv[1:])
    print(results.table(COLUMNS, [tuple(map(str, row)) for row in rows]))
    command = f'python -m benchmarks.attributes {" ".join(argv[1:])}'
    record = {'device': 'annotations', 'command': command, 'columns': COLUMNS, 'rows': rows}
    measuring.write_json(flags.FLAGS.json, record)


def define_flags():
    """Where to."""
    flags.DEFINE_string('json', '', 'File for a record of docs/measurements.')


if __name__ == '__main__':
    run_main(main, define_flags)
