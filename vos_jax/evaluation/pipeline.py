"""Segments many sequences on one or several devices while finished ones are written and scored."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vos_jax.evaluation.ledger import Ledger, Record
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.progress import SequenceProgress
from vos_jax.evaluation.protocols import Task
from vos_jax.evaluation.scoring import make_workers, score_task
from vos_jax.evaluation.segmenting import segment_together


@dataclasses.dataclass(frozen=True)
class Lane:
    """Segmenters of one device and what must surround their use.

    Attributes:
      segmenters: with `start`, `step`, `add_objects`; as many as sequences are segmented at a time.
      context: entered by the thread that uses them, as to choose their device.
      count_compilations: number of compilations so far in the calling thread.
      step_together: function of segmenters and frames that does their `step` in one program.
    """

    segmenters: Sequence[Any]
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    count_compilations: Callable[[], int] = lambda: 0
    step_together: Callable[[list, list], list] | None = None


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
        """Writes and yields the Records of sequences; after an error stops, and notes it."""
        try:
            for wait in future.result():
                record = wait()
                self._ledger.write(record)
                self._progress.sequence(record.result)
                yield record
        except _Stopped:
            return
        except Exception as error:  # raised when all lanes have ended
            self.stop()
            errors.append(error)

    def segment(self, tasks):
        """Gives for each sequence a function that waits for its score, and gives its Record."""
        lane = self._free.get()
        try:
            with lane.context():
                return self._segment(lane, tasks)
        finally:
            self._free.put(lane)

    def _segment(self, lane, tasks):
        self._go_on()
        found = segment_together(
            lane.segmenters[: len(tasks)],
            tasks,
            [self._ledger.masks / task.name for task in tasks],
            step_together=lane.step_together,
            count_compilations=lane.count_compilations,
            on_frame=self._on_frame,
        )
        predictions = Predictions(self._ledger.masks)
        scores = [self._scorer.submit(score_task, task, predictions) for task in tasks]
        return [
            lambda score=score, rest=rest: Record(score.result(), *rest)
            for score, rest in zip(scores, found)
        ]

    def _on_frame(self, task, index):
        self._go_on()
        self._progress.frame(task.name, index, len(task.sequence.frames))

    def _go_on(self):
        if self._stop.is_set():
            raise _Stopped


def grouped(tasks: Sequence[Task], most: int) -> list[list[Task]]:
    """Groups of up to `most` sequences with frames of one size; the longest come first.

    In a group are sequences with about as many objects and frames, so that it fills a program.
    """
    groups = []
    if most > 1:
        tasks = sorted(tasks, key=lambda task: (task.sequence.size, len(task.ids), -_length(task)))
    for task in tasks:
        fits = groups and len(groups[-1]) < most
        if fits and groups[-1][0].sequence.size == task.sequence.size:
            groups[-1].append(task)
        else:
            groups.append([task])
    return sorted(groups, key=lambda group: -max(map(_length, group)))


def _length(task):
    return len(task.sequence.required)


def segment_all(
    lanes: Sequence[Lane], tasks: Sequence[Task], ledger: Ledger, progress: SequenceProgress
) -> Iterator[Record]:
    """Segments, writes, scores and records sequences; yields records in the order they are done.

    When one fails, the frames at hand are given up, finished sequences are still recorded, and
    the error is raised.
    """
    groups = grouped(tasks, len(lanes[0].segmenters))
    with (
        make_workers(1) as scorer,
        concurrent.futures.ThreadPoolExecutor(len(lanes)) as threads,
    ):
        work = _Segmenting(lanes, scorer, ledger, progress)
        errors = []
        futures = [threads.submit(work.segment, group) for group in groups]
        try:
            ended = concurrent.futures.as_completed(futures)
            yield from itertools.chain.from_iterable(work.recorded(one, errors) for one in ended)
        finally:
            work.stop()
    if errors:
        raise errors[0]
