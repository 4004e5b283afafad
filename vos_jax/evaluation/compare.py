"""Puts runs on the same sequences side by side."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vos_jax.errors import InputError
from vos_jax.evaluation import results as results_files
from vos_jax.evaluation.metrics import statistics
from vos_jax.evaluation.results import (
    Results,
    global_scores,
    object_rows,
    plain,
    sequence_mean,
    table,
)
from vos_jax.evaluation.scoring import SequenceResult
from vos_jax.storage.json_files import write_json

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class FrameDifference:
    """One object in one frame, in two runs."""

    sequence: str
    id: int
    stem: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """J&F of the second run less that of the first."""
        return self.second - self.first


@dataclasses.dataclass(frozen=True)
class Interval:
    """A difference of J&F with its 95 % interval."""

    difference: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs beside the first of them."""

    names: tuple[str, ...]  # of the runs
    runs: tuple[Results, ...]  # their results
    intervals: tuple[Interval, ...]  # J&F of each later run less that of the first
    # For each later run the frames that differ most from the first.
    frames: tuple[tuple[FrameDifference, ...], ...]


def compare_folders(folders: Sequence[str | Path]) -> Comparison:
    """Reads and compares the results of two or more evaluations of the same sequences."""
    if len(folders) < 2:
        raise InputError(f'--compare={folders[0] if folders else ""}: need two runs or more')
    runs = [results_files.read(folder) for folder in folders]
    for folder, run in zip(folders[1:], runs[1:]):
        _check_same(runs[0], run, folders[0], folder)
    return compare(_short_names(folders), runs)


def compare(names: Sequence[str], runs: Sequence[Results], num_frames: int = 20) -> Comparison:
    """Compares runs of the same sequences, each with the first."""
    first, *others = runs
    intervals = tuple(bootstrap(first, other) for other in others)
    frames = tuple(tuple(frame_differences(first, other)[:num_frames]) for other in others)
    return Comparison(tuple(names), tuple(runs), intervals, frames)


def bootstrap(first: Results, second: Results, resamples=RESAMPLES, seed=0) -> Interval:
    """Gives the J&F difference and its 95 % interval over other choices of sequences.

    Whole sequences are drawn with replacement, since the objects of one sequence fail together;
    the global number stays the mean over objects.
    """
    sums, counts = [], []
    for before, after in zip(first.sequences, second.sequences):
        differences = _object_jf(after) - _object_jf(before)
        differences = differences[~np.isnan(differences)]
        sums.append(differences.sum())
        counts.append(len(differences))
    sums, counts = np.array(sums), np.array(counts)
    if not counts.sum():
        return Interval(math.nan, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    drawn_counts = counts[drawn].sum(axis=1)
    means = sums[drawn].sum(axis=1)[drawn_counts > 0] / drawn_counts[drawn_counts > 0]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def frame_differences(first: Results, second: Results) -> list[FrameDifference]:
    """Lists all objects in all frames, the largest difference first."""
    found = []
    for before, after in zip(first.sequences, second.sequences):
        change = np.abs(after.scores.jf - before.scores.jf)
        for row, column in np.argwhere(change > 0):
            values = before.scores.jf[row, column], after.scores.jf[row, column]
            name, object_id = before.name, before.ids[row]
            found.append(
                FrameDifference(name, object_id, before.stems[column], *map(float, values))
            )
    return sorted(found, key=lambda one: -abs(one.difference))


def sequence_rows(comparison: Comparison) -> list[tuple]:
    """Lists for each sequence its name and the mean J&F of its objects in each run."""
    return [
        (results[0].name, *map(sequence_mean, results))
        for results in zip(*(run.sequences for run in comparison.runs))
        if results[0].stems and results[0].ids
    ]


def format_comparison(comparison: Comparison) -> str:
    """The text that `--compare` prints, in percent."""
    names = comparison.names
    scores = [global_scores(run) for run in comparison.runs]
    parts = [table(('run', *scores[0]), [(n, *s.values()) for n, s in zip(names, scores)])]
    parts += [
        f'J&F of {name} - {names[0]}: {_signed(one.difference)}, '
        f'95 % interval {_signed(one.low)} to {_signed(one.high)} '
        f'({RESAMPLES} draws of the sequences)'
        for name, one in zip(names[1:], comparison.intervals)
    ]
    changes = tuple(f'{name} - {names[0]}' for name in names[1:])
    parts.append(
        table(('sequence (J&F)', *names, *changes), _with_changes(sequence_rows(comparison)))
    )
    parts.append(table(('object (J&F)', *names, *changes), _with_changes(_object_rows(comparison))))
    for name, frames in zip(names[1:], comparison.frames):
        rows = [
            (f'{f.sequence}/{f.stem}', str(f.id), f.first, f.second, f.difference) for f in frames
        ]
        header = ('frames that differ most', 'object', names[0], name, 'change')
        parts.append(table(header, rows))
    return '\n\n'.join(parts)


def write(comparison: Comparison, folder: Path) -> None:
    """Writes comparison.json."""
    write_json(Path(folder) / 'comparison.json', plain(comparison_to_json(comparison)))


def comparison_to_json(comparison: Comparison) -> dict:
    """Gives plain values for comparison.json."""
    return {
        'runs': list(comparison.names),
        'scores': [global_scores(run) for run in comparison.runs],
        'intervals': [dataclasses.asdict(one) for one in comparison.intervals],
        'sequences': [list(row) for row in sequence_rows(comparison)],
        'objects': [list(row) for row in _object_rows(comparison)],
        'frames': [[dataclasses.asdict(one) for one in frames] for frames in comparison.frames],
    }


def _object_rows(comparison):
    return [
        (f'{rows[0]["sequence"]}_{rows[0]["id"]}', *(row['J&F'] for row in rows))
        for rows in zip(*(object_rows(run) for run in comparison.runs))
    ]


def _with_changes(rows):
    return [(*row, *(value - row[1] for value in row[2:])) for row in rows]


def _object_jf(result: SequenceResult) -> np.ndarray:
    """Mean J&F of each object: f64[n]."""
    return np.array([statistics(values).mean for values in result.scores.jf])


def _signed(value):
    return f'{100 * value:+.1f}'


def _short_names(folders):
    """The shortest endings of the paths that tell them apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ['/'.join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f'--compare names {folders[0]} twice; give different runs')


def _check_same(first, second, first_folder, second_folder):
    for key in ('protocol', 'split'):
        if first.header[key] != second.header[key]:
            raise InputError(
                f'{second_folder}: {key} {second.header[key]}, {first_folder} has '
                f'{first.header[key]}; compare runs of one split'
            )
    for one, other in zip(first.sequences, second.sequences):
        same = (one.name, one.ids, one.stems) == (other.name, other.ids, other.stems)
        if not same or not np.array_equal(one.area, other.area):
            raise InputError(
                f'{second_folder}: {other.name} was scored on other frames, objects or '
                f'annotations than {one.name} in {first_folder}; score both on the same data'
            )
    if len(first.sequences) != len(second.sequences):
        raise InputError(
            f'{second_folder}: {len(second.sequences)} sequences, {first_folder} has '
            f'{len(first.sequences)}; compare runs of one split'
        )
