"""Segments many sequences on one or several devices while finished ones are written and scored."""

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
    """Ends a lane because another one has failed."""


@dataclasses.dataclass
class _Segmented:
    task: Task
    timing: Any
    checksums: dict
    score: Any


def segment_all(
    lanes: Sequence[Lane], tasks: Sequence[Task], ledger: Ledger, progress: SequenceProgress
) -> Iterator[Record]:
    """Segments, writes, scores and records sequences; yields records in the order they are done.

    When one fails, the frames at hand are given up, finished sequences are still recorded, and
    the error is raised.
    """
    todo, done = queue.SimpleQueue(), queue.SimpleQueue()
    for task in sorted(tasks, key=lambda task: -len(task.sequence.required)):
        todo.put(task)
    stop = threading.Event()
    with make_workers(1) as scorer:
        arguments = (todo, done, stop, scorer, ledger, progress)
        threads = [
            threading.Thread(target=_run_lane, args=(lane, *arguments), daemon=True)
            for lane in lanes
        ]
        for thread in threads:
            thread.start()
        try:
            yield from _collect(done, len(lanes), stop, ledger, progress)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _run_lane(lane, todo, done, stop, scorer, ledger, progress):
    try:
        with lane.context():
            while not stop.is_set():
                try:
                    task = todo.get_nowait()
                except queue.Empty:
                    break
                done.put(_segment_one(lane, task, stop, scorer, ledger, progress))
    except _Stopped:
        pass
    except Exception as error:  # raised where the records are collected
        stop.set()
        done.put(error)
    finally:
        done.put(None)


def _segment_one(lane, task, stop, scorer, ledger, progress):
    def on_frame(index):
        if stop.is_set():
            raise _Stopped
        progress.frame(task.name, index, len(task.sequence.frames))

    timing, checksums = segment(
        lane.segmenter,
        task,
        ledger.masks / task.name,
        count_compilations=lane.count_compilations,
        on_frame=on_frame,
    )
    score = scorer.submit(score_task, task, Predictions(ledger.masks))
    return _Segmented(task, timing, checksums, score)


def _collect(done, num_lanes, stop, ledger, progress):
    errors = []
    while num_lanes:
        item = done.get()
        if item is None:
            num_lanes -= 1
        elif isinstance(item, Exception):
            errors.append(item)
        else:
            try:
                record = Record(item.score.result(), item.timing, item.checksums)
                ledger.write(record)
            except Exception as error:  # raised below, when all lanes have ended
                stop.set()
                errors.append(error)
                continue
            progress.sequence(record.result)
            yield record
    if errors:
        raise errors[0]
