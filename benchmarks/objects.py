"""Accuracy and speed against the number of objects: python -m benchmarks.objects [--out=FILE.json]

The two axes of the GIEL paper's Figure 1(b). Speed is that of the models of the papers' sizes with
made-up weights (benchmarks.inference). Accuracy is the J&F of the videos with so many objects, of
the models that benchmarks.ablations trained briefly, all from one encoder; those not trained yet,
and STM, which has no such recipe, have none. Draws FILE.svg beside the record.
"""

import dataclasses
from pathlib import Path
from xml.sax import saxutils

import numpy as np
from absl import flags

from benchmarks import ablations, inference, measuring
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation import results
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.names import parse_size

# Name -> recipe whose speed is measured, row of the ablations whose accuracy is taken.
MODELS = {
    'GIEL, full': ('configs/giel_resnet50.py', 'giel/full'),
    'GIEL, fast': ('configs/giel_resnet50.py:fast', 'giel/no_refine_decoder'),
    'STM': ('configs/stm_resnet50.py', None),
    'CFBI': ('configs/cfbi_resnet101.py', 'cfbi/full'),
}
# CPU time: other work on the machine does not show in it.
COLUMNS = ('model', 'objects', 'ms of CPU time a frame', 'J&F', 'objects scored')
COLOURS = ('#2a6fbb', '#66a4de', '#8a8a8a', '#c65b29')
WIDTH, HEIGHT, LEFT, GAP = 300, 200, 60, 90  # pixels of a panel and around it


def accuracy(found):
    """{number of objects of a video: (mean J&F in percent, objects)} of an evaluation."""
    values = {}
    for sequence in found.sequences:  # names may be those of several sets
        rows = results.object_rows(dataclasses.replace(found, sequences=(sequence,)))
        values.setdefault(len(rows), []).extend(100 * row['J&F'] for row in rows)
    return {count: (float(np.mean(of)), len(of)) for count, of in sorted(values.items())}


def rows_of(name, counts, size, wanted):
    """Lines of the table for one model: where it has a speed, an accuracy or both."""
    spec, title = MODELS[name]
    row = next((row for row in ablations.ROWS if row.title == title), None)
    found = row and ablations.scored(row, 0, wanted)
    scores = accuracy(found) if found else {}
    lines = []
    for count in sorted({*counts, *scores}):
        speed = {}
        if count in counts:
            print(f'{name}, objects: {count}', flush=True)
            arguments = spec, 'float32', size, count, wanted.frames
            speed = measuring.in_own_process(inference.measure, *arguments)
        mean, number = scores.get(count, (None, None))
        cpu_ms = round(speed['cpu_ms']) if speed else None
        lines.append((name, count, cpu_ms, mean and round(mean, 1), number))
    return lines


def draw(rows):
    """The two panels as the text of an SVG."""
    shapes = []
    for panel, (column, title) in enumerate([(2, 'ms of CPU time'), (3, 'J&F, percent')]):
        points = [(row[0], row[1], row[column]) for row in rows if row[column] is not None]
        if not points:
            continue
        left = LEFT + panel * (WIDTH + GAP)
        most = max(count for _, count, _ in points)
        top = max(value for *_, value in points)
        shapes.append(_text(left, 16, f'{title}, against objects'))
        shapes.append(f'<path d="M{left} 30v{HEIGHT}h{WIDTH}" fill="none" stroke="#444"/>')
        shapes += [_text(left - 45, y, f'{v:,.0f}') for y, v in ((35, top), (30 + HEIGHT, 0))]
        shapes += [
            _text(left + WIDTH * count / most - 4, 46 + HEIGHT, str(count))
            for count in {count for _, count, _ in points}
        ]
        for name, colour in zip(MODELS, COLOURS):
            line = [
                f'{left + WIDTH * count / most:.1f},{30 + HEIGHT * (1 - value / top):.1f}'
                for of, count, value in points
                if of == name
            ]
            shapes.append(  # without points it shows nothing
                f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" '
                'stroke-width="2"/>'
            )
    for index, (name, colour) in enumerate(zip(MODELS, COLOURS)):
        x = LEFT + 110 * index
        shapes.append(f'<rect x="{x}" y="{66 + HEIGHT}" width="12" height="12" fill="{colour}"/>')
        shapes.append(_text(x + 16, 77 + HEIGHT, name))
    size = f'width="{LEFT + 2 * WIDTH + GAP + 20}" height="{90 + HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    return '\n'.join([head, *shapes, '</svg>\n'])


def _text(x, y, text):
    return f'<text x="{x:.1f}" y="{y}" font-size="12">{saxutils.escape(text)}</text>'


def main(argv):
    """Measures, prints the table, writes record and picture."""
    del argv
    wanted = flags.FLAGS
    size, counts = parse_size(wanted.size), [int(text) for text in wanted.objects]
    if unknown := set(wanted.models) - set(MODELS):
        raise InputError(f"--models has '{unknown.pop()}'; known: {'; '.join(MODELS)}")
    rows = [line for name in wanted.models for line in rows_of(name, counts, size, wanted)]
    cells = [tuple('-' if cell is None else f'{cell:,}' for cell in row[1:]) for row in rows]
    print(results.table(COLUMNS, [(row[0], *line) for row, line in zip(rows, cells)]))
    record = {
        'device': measuring.describe(measuring.in_own_process(measuring.machine)),
        'command': 'python -m benchmarks.objects',
        'settings': f'speed: {wanted.size}, float32, {wanted.frames} frames',
        'columns': COLUMNS,
        'rows': rows,
    }
    measuring.write_json(wanted.json, record)
    if wanted.json:
        write_bytes(Path(wanted.json).with_suffix('.svg'), draw(rows).encode())


def define_flags():
    """What is measured, and where the ablations are."""
    # A name of a model has a comma.
    flags.DEFINE_multi_string('models', list(MODELS), f'One of: {"; ".join(MODELS)}.')
    flags.DEFINE_list('objects', ['1', '2', '3', '5'], 'Numbers of objects for the speed.')
    flags.DEFINE_string('size', '428x240', 'Frames for the speed, WIDTHxHEIGHT.')
    flags.DEFINE_list('data', ['davis_240p', 'davis_multi_240p'], 'Sets of the accuracy.')
    flags.DEFINE_integer('frames', 5, 'Frames to time.', lower_bound=1)
    flags.DEFINE_string('out', 'runs/ablations', 'Folder of benchmarks.ablations.')
    flags.DEFINE_string('json', '', 'File for a record of docs/measurements.')


if __name__ == '__main__':
    run_main(main, define_flags)
