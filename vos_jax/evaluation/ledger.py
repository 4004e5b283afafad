"""Remembers which sequences of an evaluation are finished, so that it can be resumed.

`OUT/run.json` says what is evaluated, `OUT/finished/<sequence>.json` holds the scores, the time
and the checksums of the masks in `OUT/masks/<sequence>`. A record is written last. Where masks of
another program are scored, `OUT/scored.json` holds the sequences before the one that failed.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from vos_jax.errors import InputError
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Protocol, Task
from vos_jax.evaluation.results import sequence_from_json, sequence_to_json
from vos_jax.evaluation.scoring import SequenceResult
from vos_jax.storage import checksum
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import read_json, write_json

_RECORD = {'result': dict, 'timing': {str: int | float}, 'checksums': {str: int}}


@dataclasses.dataclass
class Timing:
    """Time of the frames of one sequence, as `runner.Watch` takes it; what compiled is apart."""

    frames: int = 0
    seconds: float = 0.0
    compiled_frames: int = 0
    compiled_seconds: float = 0.0

    def record(self, seconds: float, compiled: bool) -> None:
        if compiled:
            self.compiled_frames += 1
            self.compiled_seconds += seconds
        else:
            self.frames += 1
            self.seconds += seconds


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished sequence."""

    result: SequenceResult
    timing: Timing
    checksums: Mapping[str, int]


class Ledger:
    """The records of one output folder."""

    def __init__(self, out: Path):
        self.out = out
        self.masks = out / 'masks'

    def open(self, identity: Mapping, overwrite: bool) -> None:
        """Refuses a folder that holds results of something else; `overwrite` starts it anew."""
        path = self.out / 'run.json'
        if overwrite:
            for folder in (self.masks, self.out / 'finished'):
                shutil.rmtree(folder, ignore_errors=True)
        elif path.is_file():
            remedy = 'name another --out, or start this one anew with --overwrite'
            found = read_json(path, dict, remedy)
            for key, value in identity.items():
                if found.get(key) != value:
                    raise InputError(
                        f'{self.out}: holds results with {key} {found.get(key)}, this run has '
                        f'{value}; {remedy}'
                    )
        for failure in self.out.glob('failed-*.txt'):
            failure.unlink()
        write_json(path, identity)

    def report_failure(self, process: int, error: Exception) -> None:
        """Tells process 0, which would wait for this one's sequences for ever."""
        write_bytes(self._failure(process), str(error).encode())

    def find_failure(self, num_processes: int) -> str | None:
        """What another process has reported, or None."""
        for process in range(num_processes):
            path = self._failure(process)
            if path.is_file():
                return f'process {process}: {path.read_text()}'
        return None

    def write(self, record: Record) -> None:
        values = {
            'result': sequence_to_json(record.result),
            'timing': dataclasses.asdict(record.timing),
            'checksums': dict(record.checksums),
        }
        write_json(self._path(record.result.name), checksum.seal(values), indent=None)

    def read(self, task: Task) -> Record | None:
        """Reads the record of a sequence; None if it is not finished or its masks have changed."""
        path = self._path(task.name)
        try:
            values = read_json(path, _RECORD)
            with reading(path, 'a record'):
                result = sequence_from_json(values['result'])
                record = Record(result, Timing(**values['timing']), values['checksums'])
        except InputError:
            return None
        if not self._is_intact(task, record):
            return None
        return record

    def _is_intact(self, task, record):
        """Whether the record is of this task and the masks are those it was written for."""
        wanted = (task.ids, tuple(task.scored), set(task.sequence.required))
        result = record.result
        if (result.ids, result.stems, set(record.checksums)) != wanted:
            return False
        files = {self.masks / task.name / f'{stem}.png': n for stem, n in record.checksums.items()}
        return all(path.is_file() and checksum.of_file(path) == n for path, n in files.items())

    def _failure(self, process):
        return self.out / f'failed-{process}.txt'

    def _path(self, name):
        return self.out / 'finished' / f'{name}.json'


class KeptScores:
    """The sequences that were scored before a mask of a later one was refused."""

    def __init__(self, out: Path, protocol: Protocol, predictions: Predictions):
        self._path = Path(out) / 'scored.json'
        self._tasks = {task.name: task for task in protocol.tasks}
        self._predictions = predictions

    def write(self, results: Sequence[SequenceResult]) -> None:
        """Keeps results as far as the disk allows: the error that led here is what counts."""
        with contextlib.suppress(OSError):
            kept = {
                result.name: [self._fingerprint(result.name), sequence_to_json(result)]
                for result in results
            }
            write_json(self._path, checksum.seal({'scores': kept}), indent=None)

    def read(self) -> list[SequenceResult]:
        """Gives what was kept of masks and annotations that have not changed since."""
        try:
            kept = read_json(self._path, {'scores': {str: (int, dict)}})['scores']
            with reading(self._path, 'scores'):
                return [
                    sequence_from_json(values)
                    for name, (fingerprint, values) in kept.items()
                    if name in self._tasks and fingerprint == self._fingerprint(name)
                ]
        except InputError:
            return []

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _fingerprint(self, name):
        """CRC-32 of the bytes of all masks and annotations, and of the rules, as one text."""
        task, predictions = self._tasks[name], self._predictions
        rules = (task.ids, list(task.scored.items()), task.merged)
        value = checksum.of_bytes(repr((rules, dataclasses.astuple(predictions))).encode())
        files = {task.sequence.masks[stem] for stem in task.scored}
        for path in (*sorted(files), *predictions.files(name)):
            value = checksum.of_file(path, checksum.of_bytes(str(path).encode(), value))
        return value
