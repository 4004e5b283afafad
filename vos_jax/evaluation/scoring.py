"""Scores the masks of a protocol, sequence by sequence, in worker processes."""

import concurrent.futures
import dataclasses
import math
import multiprocessing
import os
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from vos_jax import malloc
from vos_jax.evaluation.metrics import SequenceScores, score_frame
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Task
from vos_jax.storage import overlap

# A process takes about 0.3 s to start; as many frames take as long to score.
_FRAMES_PER_WORKER = 100


@dataclasses.dataclass(frozen=True)
class SequenceResult:
    """The scores of one sequence and what a report needs beside them."""

    name: str  # the sequence
    ids: tuple[int, ...]  # the objects, one row each
    stems: tuple[str, ...]  # the scored frames, one column each
    scores: SequenceScores  # J and F, f64[n, frames], NaN where an object is not scored
    area: np.ndarray  # f64[n, frames], share of the annotated frame that the object covers
    missing: tuple[int, ...]  # ids that no scored prediction shows


def score_task(task: Task, predictions: Predictions) -> SequenceResult:
    """Scores one sequence as its protocol says; void is background, absent objects are empty."""
    rows = {object_id: row for row, object_id in enumerate(task.ids)}
    scores = np.full((2, len(task.ids), len(task.scored)), math.nan)
    area = np.zeros(scores.shape[1:])
    missing = set(task.ids) if task.scored else set()
    for column, (stem, ids) in enumerate(task.scored.items()):
        truth, pred = task.read_truth(stem), predictions.read(task, stem)
        of_ids = [rows[object_id] for object_id in ids]
        scores[:, of_ids, column] = score_frame(pred, truth, ids)
        area[of_ids, column] = [np.count_nonzero(truth == i) / truth.size for i in ids]
        missing -= {object_id for object_id in missing if np.any(pred == object_id)}
    return SequenceResult(
        task.name,
        task.ids,
        tuple(task.scored),
        SequenceScores(*scores),
        area,
        tuple(sorted(missing)),
    )


def score_tasks(
    tasks: Sequence[Task], predictions: Predictions, num_workers: int | None = None
) -> Iterator[SequenceResult]:
    """Scores sequences in worker processes; yields them as they are done, in no fixed order."""
    num_workers = choose_workers(tasks, num_workers)
    if num_workers == 1:
        yield from (score_task(task, predictions) for task in tasks)
        return
    # The longest first, so that no worker is left alone with one at the end.
    ordered = sorted(tasks, key=lambda task: -len(task.scored) * len(task.ids))
    with make_workers(num_workers) as workers:
        futures = [workers.submit(score_task, task, predictions) for task in ordered]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        finally:
            for future in futures:  # after an error nothing more is begun
                future.cancel()


def choose_workers(tasks: Sequence[Task], num_workers: int | None) -> int:
    """Gives the number of processes worth starting; None lets the cores and the work decide."""
    if num_workers is None:
        num_frames = sum(len(task.scored or task.sequence.required) for task in tasks)
        num_workers = min(os.cpu_count() or 1, 1 + num_frames // _FRAMES_PER_WORKER)
    return max(1, min(num_workers, len(tasks)))


def make_workers(num_workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Starts worker processes, fresh ones: a fork of a process with JAX threads may hang."""
    return concurrent.futures.ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )


def _start_worker(parent):
    cv2.setNumThreads(1)  # the processes fill the cores already
    overlap.end_with(parent)
    malloc.keep_freed()  # a third of a frame's time: the kernel clears what is taken anew


def deal(items: Sequence, lengths: Sequence[int], num_parts: int) -> list[list]:
    """Shares items so that each part has about the same length; the same in each process.

    >>> deal('abcd', [1, 5, 2, 2], 2)
    [['b'], ['c', 'd', 'a']]
    """
    parts, totals = [[] for _ in range(num_parts)], [0] * num_parts
    for number in sorted(range(len(items)), key=lambda number: (-lengths[number], number)):
        part = totals.index(min(totals))
        parts[part].append(items[number])
        totals[part] += lengths[number]
    return parts
