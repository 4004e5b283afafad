"""What an evaluation leaves behind: results.json, the two official CSV files, a printed table."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vos_jax.errors import InputError
from vos_jax.evaluation.metrics import SequenceScores, statistics, summarise
from vos_jax.evaluation.protocols import Protocol
from vos_jax.evaluation.scoring import SequenceResult
from vos_jax.storage import checksum
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import read_json, write_json

FILE = 'results.json'
_SEQUENCE = {
    'name': str,
    'ids': [int],
    'stems': [str],
    'J': list,
    'F': list,
    'area': list,
    'missing': [int],
}
_FORM = {
    'protocol': str,
    'split': str,
    'mode': str,
    'sequences': [_SEQUENCE],
    'groups': dict | None,
}
GLOBAL_COLUMNS = ('J&F-Mean', 'J-Mean', 'J-Recall', 'J-Decay', 'F-Mean', 'F-Recall', 'F-Decay')


@dataclasses.dataclass(frozen=True)
class Results:
    """All scores of one run."""

    header: Mapping  # protocol, split, mode, and how the masks were made; plain values
    sequences: tuple[SequenceResult, ...]  # in the order of the split
    # 'seen' or 'unseen' by (sequence, id), where the protocol distinguishes them.
    groups: Mapping[tuple[str, int], str] | None = None


def collect(protocol: Protocol, sequences: Iterable[SequenceResult], header: Mapping) -> Results:
    """Puts the results of a protocol's sequences, which come in any order, together."""
    by_name = {result.name: result for result in sequences}
    groups = {
        (task.name, i): group for task in protocol.tasks for i, group in (task.groups or {}).items()
    }
    about = {
        'name': protocol.label,
        'protocol': protocol.name,
        'split': protocol.split,
        'mode': protocol.mode,
        'data': str(protocol.root),
    }
    if protocol.note:
        about['note'] = protocol.note
    ordered = tuple(by_name[task.name] for task in protocol.tasks)
    return Results({**about, **header}, ordered, groups or None)


def global_scores(results: Results) -> dict[str, float]:
    """Gives the official global numbers by the names of the CSV file, fractions.

    With groups (local YouTube-VOS hold-out) J and F of seen and unseen categories and their mean
    G follow: an unseen object then weighs more than a seen one.
    """
    summary = summarise({result.name: result.scores for result in results.sequences})
    measures = [(one.mean, one.recall, one.decay) for one in (summary.J, summary.F)]
    scores = dict(zip(GLOBAL_COLUMNS, (summary.jf, *measures[0], *measures[1])))
    return scores | (_grouped_scores(results) if results.groups else {})


def _grouped_scores(results):
    scores = {}
    for group in ('seen', 'unseen'):
        rows = [
            row
            for row in object_rows(results)
            if results.groups.get((row['sequence'], row['id'])) == group
        ]
        for measure in ('J', 'F'):
            values = [row[measure] for row in rows if not math.isnan(row[measure])]
            scores[f'{measure}-{group}'] = float(np.mean(values)) if values else math.nan
    return {'G': float(np.mean(list(scores.values()))), **scores}


def object_rows(results: Results) -> list[dict]:
    """Lists J, F, J&F and mean area of each object: one row per line of the second CSV file."""
    return [
        _object_row(result, index)
        for result in results.sequences
        for index in range(len(result.ids))
    ]


def _object_row(result, index):
    of_measure = [statistics(values[index]) for values in (result.scores.J, result.scores.F)]
    scored = ~np.isnan(result.scores.J[index])
    return {
        'sequence': result.name,
        'id': result.ids[index],
        'frames': int(scored.sum()),
        'J': of_measure[0].mean,
        'F': of_measure[1].mean,
        'J&F': (of_measure[0].mean + of_measure[1].mean) / 2,
        'J-Recall': of_measure[0].recall,
        'F-Recall': of_measure[1].recall,
        'area': float(result.area[index][scored].mean()) if scored.any() else math.nan,
    }


def sequence_mean(result: SequenceResult) -> float:
    """Gives the mean J&F of the objects of one sequence; NaN if none is scored."""
    means = np.array([statistics(values).mean for values in result.scores.jf])
    means = means[~np.isnan(means)]
    return float(means.mean()) if len(means) else math.nan


def format_sequence(result: SequenceResult, number: int, total: int) -> str:
    """One line on the `number`-th sequence that is finished."""
    objects = f'{len(result.ids)} object{"s" if len(result.ids) != 1 else ""}'
    if result.scores.J.size:
        objects = f'J&F {100 * sequence_mean(result):.1f}, {objects}'
    return f'[{number}/{total}] {result.name}: {objects}'


def missing_objects(results: Results) -> list[str]:
    """Names objects that no scored prediction shows, as '<sequence>_<id>'."""
    return [f'{result.name}_{i}' for result in results.sequences for i in result.missing]


def write(results: Results, folder: Path) -> None:
    """Writes results.json and, where there are scores, the CSV files; each appears whole or not."""
    folder, split = Path(folder), results.header['split']
    write_json(folder / FILE, checksum.seal(to_json(results)), indent=None)
    if not any(result.stems for result in results.sequences):
        return  # nothing scored: the annotations are not public
    write_bytes(folder / f'global_results-{split}.csv', global_csv(results).encode())
    write_bytes(folder / f'per-sequence_results-{split}.csv', object_csv(results).encode())


def global_csv(results: Results) -> str:
    """The official file of global numbers, three decimals."""
    scores = global_scores(results)
    return _csv([GLOBAL_COLUMNS, [_decimals(scores[column]) for column in GLOBAL_COLUMNS]])


def object_csv(results: Results) -> str:
    """The official file of objects: '<sequence>_<id>', J, F with three decimals."""
    rows = [
        (f'{row["sequence"]}_{row["id"]}', _decimals(row['J']), _decimals(row['F']))
        for row in object_rows(results)
    ]
    return _csv([('Sequence', 'J-Mean', 'F-Mean'), *rows])


def _csv(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)  # quotes names with commas
    return text.getvalue()


def _decimals(value):
    return '' if math.isnan(value) else f'{value:.3f}'


def to_json(results: Results) -> dict:
    """Gives plain values for results.json; a score that does not exist is null."""
    return {
        **results.header,
        'scores': plain(global_scores(results)),
        'missing_objects': missing_objects(results),
        'sequences': [sequence_to_json(result) for result in results.sequences],
        'groups': results.groups
        and {f'{name}/{object_id}': group for (name, object_id), group in results.groups.items()},
    }


def sequence_to_json(result: SequenceResult) -> dict:
    """Gives plain values for one sequence."""
    return {
        'name': result.name,
        'ids': list(result.ids),
        'stems': list(result.stems),
        'J': plain(result.scores.J),
        'F': plain(result.scores.F),
        'area': plain(result.area),
        'missing': list(result.missing),
    }


def sequence_from_json(values: Mapping) -> SequenceResult:
    """The inverse of `sequence_to_json`."""
    shape = (len(values['ids']), len(values['stems']))
    arrays = {key: np.array(values[key], np.float64).reshape(shape) for key in ('J', 'F', 'area')}
    return SequenceResult(
        values['name'],
        tuple(values['ids']),
        tuple(values['stems']),
        SequenceScores(arrays['J'], arrays['F']),
        arrays['area'],
        tuple(values['missing']),
    )


def read(folder: str | Path) -> Results:
    """Reads the results.json of an evaluation; `folder` may be the file itself."""
    path = Path(folder)
    path = path if path.suffix == '.json' else path / FILE
    if not path.exists():
        raise InputError(
            f'{path}: no such file; score the masks first with '
            f'--results={path.parent} --out={path.parent}'
        )
    remedy = 'evaluate again'
    values = read_json(path, _FORM, remedy)
    with reading(path, 'the results of evaluate.py', remedy):
        sequences = tuple(sequence_from_json(one) for one in values.pop('sequences'))
        groups = values.pop('groups')
        values.pop('checksum', None)
        if groups is not None:
            parts = ((key.rsplit('/', 1), group) for key, group in groups.items())
            groups = {(name, int(number)): group for (name, number), group in parts}
    return Results(values, sequences, groups)


def plain(value):
    """Turns arrays, tuples and numbers into what JSON knows; NaN becomes null."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Lays out rows in columns; numbers become percent with one decimal, NaN a dash."""
    cells = [list(header)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        '  '.join(
            [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        ).rstrip()
        for row in cells
    ]
    return '\n'.join(lines)


def _cell(value):
    if isinstance(value, float):
        # + 0.0 makes a rounded -0.0 a plain zero.
        return '-' if math.isnan(value) else f'{round(100 * value, 1) + 0.0:.1f}'
    return str(value)


def format_scores(results: Results) -> str:
    """The table that a run prints: the objects, then the global numbers, in percent."""
    rows = [
        (f'{row["sequence"]}_{row["id"]}', str(row['frames']), row['J&F'], row['J'], row['F'])
        for row in object_rows(results)
    ]
    scores = global_scores(results)
    objects = table(('object', 'frames', 'J&F', 'J', 'F'), rows)
    overall = table(('all objects', *scores), [('percent', *scores.values())])
    return f'{objects}\n\n{overall}'
