"""Segments many sequences on one or several devices while finished ones are written and scored."""

import concurrent.futures
import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vos_jax.evaluation.ledger import Ledger, Record
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.progress import SequenceProgress
from vos_jax.evaluation.protocols import Task
from vos_jax.evaluation.scoring import make_workers, score_task
from vos_jax.evaluation.segmenting import segment


@dataclasses.dataclass(frozen=True)
class Lane:
    """A segmenter and what must surround its use.

    Attributes:
      segmenter: has `start`, `step`, `add_objects`.
      context: entered by the thread that uses the segmenter, as to choose its device.
      count_compilations: number of compilations so far in the calling thread.
    """

    segmenter: Any
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    count_compilations: Callable[[], int] = lambda: 0


class _Stopped(Exception):
    """Ends a sequence because another one has failed."""


class _Segmenting:
    """Segments sequences on lanes that wait for one, and sends them to be scored."""

    def __init__(self, lanes, scorer, ledger, progress):
        self._scorer, self._ledger, self._progress = scorer, ledger, progress
        self._stop = threading.Event()
        self._free = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    def stop(self):
        """Ends the sequences at hand at their next frame."""
        self._stop.set()

    def recorded(self, future, errors):
        """Writes the Record of a sequence that is segmented; after an error stops, and notes it."""
        try:
            record = future.result()()
            self._ledger.write(record)
        except _Stopped:
            return None
        except Exception as error:  # raised when all lanes have ended
            self.stop()
            errors.append(error)
            return None
        self._progress.sequence(record.result)
        return record

    def segment(self, task):
        """Gives a function that waits for the score, and then gives the sequence's Record."""
        lane = self._free.get()
        try:
            with lane.context():
                return self._segment(lane, task)
        finally:
            self._free.put(lane)

    def _segment(self, lane, task):
        def on_frame(index):
            if self._stop.is_set():
                raise _Stopped
            self._progress.frame(task.name, index, len(task.sequence.frames))

        if self._stop.is_set():
            raise _Stopped
        timing, checksums = segment(
            lane.segmenter,
            task,
            self._ledger.masks / task.name,
            count_compilations=lane.count_compilations,
            on_frame=on_frame,
        )
        score = self._scorer.submit(score_task, task, Predictions(self._ledger.masks))
        return lambda: Record(score.result(), timing, checksums)


def segment_all(
    lanes: Sequence[Lane], tasks: Sequence[Task], ledger: Ledger, progress: SequenceProgress
) -> Iterator[Record]:
    """Segments, writes, scores and records sequences; yields records in the order they are done.

    When one fails, the frames at hand are given up, finished sequences are still recorded, and
    the error is raised.
    """
    longest_first = sorted(tasks, key=lambda task: -len(task.sequence.required))
    with (
        make_workers(1) as scorer,
        concurrent.futures.ThreadPoolExecutor(len(lanes)) as threads,
    ):
        work = _Segmenting(lanes, scorer, ledger, progress)
        errors = []
        futures = [threads.submit(work.segment, task) for task in longest_first]
        try:
            ended = concurrent.futures.as_completed(futures)
            yield from filter(None, (work.recorded(future, errors) for future in ended))
        finally:
            work.stop()
    if errors:
        raise errors[0]
