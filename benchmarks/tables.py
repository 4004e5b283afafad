"""Writes the tables of README and docs from docs/measurements: make tables.

  python -m benchmarks.tables            # all pages
  python -m benchmarks.tables --check    # writes nothing; exit code 1 where a table is stale

A page has a table between `<!-- table: NAME -->` and `<!-- end -->`. NAME is a file of
docs/measurements with `columns` and `rows`, or one of `VIEWS`, which choose from a raw record.
"""

import json
import os
import re
import sys
from pathlib import Path

from absl import app, flags

REPOSITORY = Path(__file__).resolve().parent.parent
MEASUREMENTS = REPOSITORY / 'docs' / 'measurements'
PAGES = ('README.md', 'docs/*.md', 'vos_jax/pretrained/*.md')
_BLOCK = re.compile(r'(<!-- table: ([\w.-]+) -->\n)(.*?)(<!-- end -->)', re.DOTALL)
_CHECK = flags.DEFINE_bool('check', False, 'Write nothing; exit code 1 where a table is stale.')


def read(name):
    """A record of docs/measurements by its name, without the ending."""
    return json.loads((MEASUREMENTS / f'{name}.json').read_text())


def markdown(columns, rows):
    """A table in Markdown.

    Args:
      columns: list of heads.
      rows: lists of cells: text, numbers (thousands get commas), None for what was not measured.

    Returns:
      Its text, a line for each row.
    """
    lines = [columns, ['---'] * len(columns), *rows]
    cells = (' | '.join(map(_cell, line)) for line in lines)
    return ''.join(re.sub(r' {2,}', ' ', f'| {line} |\n') for line in cells)


def _cell(value):
    if value is None:
        return 'not measured'
    return value if isinstance(value, str) else f'{value:,}'


def caption(record, link):
    """Device, command and commit of a record; its file has the rest: date, load, versions."""
    device = record['device'][0].upper() + record['device'][1:]
    command = f'`{record["command"]}`' if 'command' in record else ''
    commit = f'commit {record["commit"]}' if 'commit' in record else ''
    parts = filter(None, [device, command, commit])
    return f'*{"; ".join(parts)}; [all of the record]({link}).*\n'


def _gpu_inference():
    """A frame of each model on a GPU, beside PyTorch."""
    rows = read('gpu_h100')['rows']
    timed = [row for row in rows if row.get('what') == 'inference']
    torch = {(row['torch'], row['objects']): row['ms'] for row in timed}
    found = []
    for row in rows:
        if 'api_ms' not in row:
            continue
        name = {'giel_resnet50': 'GIEL, full', 'giel_resnet50:fast': 'GIEL, fast'}.get(
            row['config'].removeprefix('configs/').replace('.py', ''), 'CFBI'
        )
        beside = [torch.get((how, row['objects'])) for how in ('eager', 'compiled')]
        beside = beside if name == 'GIEL, full' else [None, None]
        fixed = [f'{row["api_fps"]:.0f}', f'{row["api_ms"]:.1f}', f'{row["device_ms"]:.1f}']
        ms = [value if value is None else f'{value:.1f}' for value in beside]
        found.append([name, row['objects'], *fixed, f'{row["peak_mb"]:.0f}', *ms])
    columns = [
        '854x480, bfloat16',
        'objects',
        'FPS, all objects',
        'ms',
        'ms on the device',
        'peak MB',
    ]
    return markdown([*columns, 'PyTorch, ms', 'torch.compile, ms'], found)


def _gpu_training():
    """A train step of GIEL on a GPU, beside PyTorch."""
    rows = read('gpu_h100')['rows']
    ours = next(row for row in rows if row.get('what') == 'train step')
    theirs = next(row for row in rows if row.get('what') == 'training')
    found = [
        [
            'vos_jax',
            f'{1000 * ours["s"]:.0f}',
            f'{ours["peak_mb"]:.0f}',
            f'{ours["compile_s"]:.0f}',
        ],
        ['PyTorch', f'{theirs["ms"]:.0f}', f'{theirs["peak_mb"]:.0f}', f'{theirs["first_s"]:.0f}'],
    ]
    setting = f'{ours["batch"]} clips of {ours["frames"]} frames, {ours["size"]}, {ours["dtype"]}'
    return markdown([f'GIEL, {setting}', 'ms a step', 'peak MB', 's before the first step'], found)


def _results():
    """All results, in the manner of a model zoo."""
    rows = read('results')['rows']
    keys = ('J', 'F', 'J&F')
    found = []
    for row in rows:
        scores = [f'{row[key]:.1f}' for key in keys[:2]] + [f'**{row["J&F"]:.1f}**']
        found.append([row['model'], row['data'], row['set'], *scores, row['speed'], row['command']])
    return markdown(['model', 'trained on', 'val split', *keys, 'speed', 'command'], found)


def _results_short():
    """The README's: a row for each model, J&F alone."""
    rows = read('results')['rows']
    found = []
    for model in dict.fromkeys(row['model'] for row in rows):
        ours = [row for row in rows if row['model'] == model]
        found.append([model, *(f'**{row["J&F"]:.1f}**' for row in ours), ours[0]['speed']])
    record = read('gpu_h100')
    gpu = next(row for row in record['rows'] if row.get('api_fps'))
    speed = (
        f'{gpu["api_ms"]:.1f} ms a frame ({gpu["api_fps"]:.0f} FPS): {gpu["objects"]} objects, '
        f'854x480, {gpu["dtype"]}, one H100; measured at commit {record["commit"]}'
    )
    found.append(['`giel_resnet50`, not trained by us', '', '', speed])
    return markdown(['model', 'J&F, one object', 'J&F, several objects', 'speed'], found)


def _weights():
    """The weights that come with the project, and their checksums."""
    sums = {row['model']: row['sha256'] for row in read('results')['rows'] if 'sha256' in row}
    found = [[model.split()[0], f'`{checksum}`'] for model, checksum in sums.items()]
    return markdown(['weights', 'SHA-256 of `vos_jax/pretrained/NAME.npz`'], found)


def _convolutions_cpu():
    """The convolutions of a train step that lose most to PyTorch, those that gain most, and all."""
    record = read('convolutions_cpu')
    ways = ('xla_ms', 'ours_ms', 'pytorch_ms')

    def row(one):
        (_, height, width, channels), (size, _, _, outputs) = one['image'], one['kernel']
        shape = f'{one["image"][0]} x {height}x{width}, {channels} to {outputs}, {size}x{size}'
        shape += f', stride {one["stride"]}' if one['stride'] > 1 else ''
        return [one['part'], shape, one['count'], *(f'{one[way]:.1f}' for way in ways)]

    rows, times = record['rows'], [record['total'][way] for way in ways]
    found = [row(one) for one in [*rows[:5], *rows[-5:]]]
    found.append(['all', '', '', *(f'{time:,.0f}' for time in times)])
    heads = ['', 'images x height x width, channels, kernel', 'in a step']
    return markdown([*heads, "XLA's convolution, ms", 'vos_jax', 'PyTorch'], found)


VIEWS = {
    'convolutions_cpu': _convolutions_cpu,
    'gpu_inference': _gpu_inference,
    'gpu_training': _gpu_training,
    'results': _results,
    'results_short': _results_short,
    'weights': _weights,
}
_RECORD_OF = {
    'gpu_inference': 'gpu_h100',
    'gpu_training': 'gpu_h100',
    'results_short': 'results',
    'weights': 'results',
}


def table(name, page):
    """The text between the markers of a table: the table and its caption.

    Args:
      name: of a record with `columns` and `rows`, or of a view.
      page: path of the page, for the link to the record.
    """
    file = _RECORD_OF.get(name, name)
    record = read(file)
    body = VIEWS[name]() if name in VIEWS else markdown(record['columns'], record['rows'])
    link = os.path.relpath(MEASUREMENTS / f'{file}.json', page.parent)
    return f'\n{body}\n{caption(record, link)}\n'


def rendered(page):
    """The text of a page with its tables as the records have them now."""
    return _BLOCK.sub(lambda m: m[1] + table(m[2], page) + m[4], page.read_text())


def pages():
    """All pages that may have tables."""
    return sorted(path for pattern in PAGES for path in REPOSITORY.glob(pattern))


def main(argv):
    """Writes or checks the pages."""
    del argv
    stale = [page for page in pages() if rendered(page) != page.read_text()]
    for page in stale:
        print(f'{page.relative_to(REPOSITORY)}: {"stale" if _CHECK.value else "written"}')
        if not _CHECK.value:
            page.write_text(rendered(page))
    if stale and _CHECK.value:
        print('make tables writes them again', file=sys.stderr)
        sys.exit(1)


if __name__ == '__main__':
    app.run(main)
