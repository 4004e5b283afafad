"""Writes report/index.html of an evaluation, and the page of a comparison."""

import html
import itertools
import json
import math
import re
from importlib import resources
from pathlib import Path

import numpy as np

from vos_jax.evaluation.compare import Comparison, comparison_to_json
from vos_jax.evaluation.report import drawings
from vos_jax.evaluation.results import Results, global_scores, missing_objects, object_rows, plain
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.palette import COLOURS

NUM_WORST = 12
# Shares of the frame in percent; objects of DAVIS lie between a thousandth and a half of it.
SIZE_EDGES = (0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 100)
# What the header of a run says, and what the page calls it.
_FACTS = {
    'protocol': 'protocol',
    'split': 'split',
    'mode': 'frames',
    'note': 'scored',
    'data': 'data',
    'weights': 'checkpoint',
    'workdir': 'checkpoint of run',
    'step': 'step',
    'masks': 'masks',
    'form': 'form of the masks',
    'device': 'device',
    'software': 'software',
}


def write_report(results: Results, folder: Path) -> Path:
    """Writes `folder/index.html`; pictures are looked for in `folder/pictures`."""
    kinds = [kind for kind in drawings.KINDS if (folder / 'pictures' / kind).is_dir()]
    shown = [_shown(result, folder / 'pictures/prediction') for result in results.sequences]
    data = report_data(results) | {'kinds': kinds, 'shown': shown}
    return _write_page(folder / 'index.html', 'report', _title(results), data)


def write_comparison(comparison: Comparison, folder: Path, kinds: list[str]) -> Path:
    """Writes `folder/index.html` for runs whose pictures are in `folder/pictures`."""
    runs = [[_sequence_data(result) for result in run.sequences] for run in comparison.runs]
    data = comparison_to_json(comparison) | {
        'title': _title(comparison.runs[0]),
        'sequences_of_runs': runs,
        'shown': [_shown(one, folder / 'pictures/run0') for one in comparison.runs[0].sequences],
        'kinds': kinds,
        'colours': COLOURS,
    }
    title = ' vs. '.join(comparison.names)
    return _write_page(folder / 'index.html', 'comparison', title, data)


def _shown(result, folder):
    """The frames that the slider goes through: those scored, or all where none is."""
    return result.stems or drawings.list_frames(folder / result.name)


def report_data(results: Results) -> dict:
    """Gives all that the page shows, as plain values."""
    return {
        'title': _title(results),
        'facts': _facts(results.header),
        'settings': list(results.header.get('settings', {}).items()),
        'scores': global_scores(results) if _is_scored(results) else {},
        'objects': object_rows(results) if _is_scored(results) else [],
        'missing': missing_objects(results),
        'sequences': [_sequence_data(result) for result in results.sequences],
        'worst': worst_frames(results),
        'by_size': scores_by_size(results),
        'by_frame': scores_by_frame(results),
        'colours': COLOURS,
    }


def worst_frames(results: Results) -> list[dict]:
    """Lists the frame with the lowest J&F of each object, the worst objects first."""
    found = []
    for result in results.sequences:
        for row, object_id in enumerate(result.ids):
            values = result.scores.jf[row]
            if not len(values) or np.isnan(values).all():
                continue
            column = int(np.nanargmin(values))
            where = {'sequence': result.name, 'id': object_id, 'stem': result.stems[column]}
            found.append(where | {'J&F': float(values[column])})
    return sorted(found, key=lambda one: one['J&F'])[:NUM_WORST]


def scores_by_size(results: Results) -> list[dict]:
    """Mean J&F of all objects in all frames where they are visible, by their share of the frame."""
    share, jf = _flatten(results, 'area'), _flatten(results, 'jf')
    known = ~np.isnan(jf) & (share > 0)
    bins = []
    for low, high in itertools.pairwise(SIZE_EDGES):
        inside = known & (100 * share > low) & (100 * share <= high)
        if inside.any():
            mean, count = float(jf[inside].mean()), int(inside.sum())
            bins.append({'low': low, 'high': high, 'J&F': mean, 'count': count})
    return bins


def scores_by_frame(results: Results) -> list[dict]:
    """Mean J&F of all objects at the n-th scored frame of their sequence."""
    longest = max((len(result.stems) for result in results.sequences), default=0)
    found = []
    for index in range(longest):
        values = [r.scores.jf[:, index] for r in results.sequences if index < len(r.stems)]
        values = np.concatenate(values)
        values = values[~np.isnan(values)]
        if len(values):
            found.append({'frame': index + 1, 'J&F': float(values.mean()), 'count': len(values)})
    return found


def _flatten(results, what):
    arrays = [
        (result.area if what == 'area' else result.scores.jf).ravel()
        for result in results.sequences
    ]
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _sequence_data(result):
    return {
        'name': result.name,
        'ids': result.ids,
        'stems': result.stems,
        'J': np.round(result.scores.J, 4),
        'F': np.round(result.scores.F, 4),
    }


def _is_scored(results):
    return any(result.stems for result in results.sequences)


def _title(results):
    header = results.header
    return f'{header["protocol"]} {header["split"]} ({header["mode"]})'


def _facts(header):
    """Label and text of what a reader asks first; the settings have a place of their own."""
    found = {key: value for key, value in header.items() if value is not None}
    facts = [(label, str(found[key])) for key, label in _FACTS.items() if key in found]
    if not math.isnan(found.get('fps', math.nan)):
        facts.append(('speed', f'{found["fps"]:.3g} FPS: {found.get("fps_includes", "")}'))
    memory = [
        f'{found[key]:.2f} GB on {where}'
        for key, where in (
            ('peak_device_memory_gb', 'a device'),
            ('peak_host_memory_gb', 'the host'),
        )
        if key in found
    ]
    if memory:
        facts.append(('peak memory', ', '.join(memory)))
    if 'seconds_of_this_command' in found:
        facts.append(('time of the command', f'{found["seconds_of_this_command"]:.0f} s'))
    return facts


def _write_page(path, name, title, data):
    templates = resources.files('vos_jax.evaluation.report') / 'templates'
    text = {part: (templates / part).read_text('utf-8') for part in ('page.css', 'parts.js')}
    # '<' must not end the script element; a title is text, so names are escaped by the page itself.
    encoded = json.dumps(plain(data), ensure_ascii=True).replace('<', '\\u003c')
    page = (templates / 'page.html').read_text('utf-8')
    script = (templates / f'{name}.js').read_text('utf-8')
    fields = {
        '/*style*/': text['page.css'],
        '/*data*/': encoded,
        '/*parts*/': text['parts.js'],
        '/*script*/': script,
        '<!--title-->': html.escape(title, quote=False),
    }
    # In one pass, so that nothing that is put in is searched for the next field.
    page = re.sub('|'.join(map(re.escape, fields)), lambda match: fields[match[0]], page)
    write_bytes(path, page.encode())
    return path
