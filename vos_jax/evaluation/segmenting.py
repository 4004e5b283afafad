"""Segments many sequences on one or several devices while finished ones are written and scored."""

import concurrent.futures
import contextlib
import functools
import itertools
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vos_jax.data import masks
from vos_jax.evaluation.ledger import Ledger, Record, Timing
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Task
from vos_jax.evaluation.results import format_sequence
from vos_jax.evaluation.scoring import make_workers, score_task
from vos_jax.inference import runner
from vos_jax.inference.runner import Lane
from vos_jax.storage import checksum
from vos_jax.storage.atomic import remove_leftovers
from vos_jax.storage.progress import Progress


def segment_all(
    lanes: Sequence[Lane], tasks: Sequence[Task], ledger: Ledger, num_finished: int = 0
) -> Iterator[Record]:
    """Segments, writes, scores and records sequences; yields records in the order they are done.

    When one fails, the frames at hand are given up, finished sequences are still recorded, and
    the error is raised. `num_finished` sequences of the run were finished before.
    """
    groups, errors = grouped(tasks, len(lanes[0].segmenters)), []
    with (
        make_workers(1) as scorer,
        concurrent.futures.ThreadPoolExecutor(len(lanes)) as threads,
    ):
        work = _Work(lanes, tasks, scorer, ledger, num_finished)
        futures = [threads.submit(work.segment, group) for group in groups]
        try:
            ended = concurrent.futures.as_completed(futures)
            yield from itertools.chain.from_iterable(work.recorded(one, errors) for one in ended)
        finally:
            work.stop.set()
    if errors:
        raise errors[0]


class FreeLanes:
    """Lanes that wait for a thread that needs one."""

    def __init__(self, lanes):
        self._waiting = queue.SimpleQueue()
        for lane in lanes:
            self._waiting.put(lane)

    @contextlib.contextmanager
    def one(self):
        """A Lane, in its context; it waits again afterwards."""
        lane = self._waiting.get()
        try:
            with lane.context():
                yield lane
        finally:
            self._waiting.put(lane)


class Stopped(Exception):
    """Ends sequences between two frames: another one has failed, or nobody waits for them."""


class _Work:
    """Segments sequences on lanes that wait for one, and sends them to be scored."""

    def __init__(self, lanes, tasks, scorer, ledger, num_finished):
        self.stop = threading.Event()
        self._scorer, self._ledger = scorer, ledger
        self._line = Progress('frames', sum(map(_num_frames, tasks)), line_every_s=math.inf)
        self._numbers, self._total = itertools.count(num_finished + 1), num_finished + len(tasks)
        self._free = FreeLanes(lanes)

    def segment(self, tasks):
        """Gives for each sequence a function that waits for its score, and gives its Record."""
        with self._free.one() as lane:
            self._go_on()
            folders = [self._ledger.masks / task.name for task in tasks]
            found = segment_together(lane, tasks, folders, self._on_frame)
        predictions = Predictions(self._ledger.masks)
        scores = [self._scorer.submit(score_task, task, predictions) for task in tasks]
        return [
            lambda score=score, rest=rest: Record(score.result(), *rest)
            for score, rest in zip(scores, found)
        ]

    def recorded(self, future, errors):
        """Writes and yields the Records of sequences; after an error stops, and notes it."""
        try:
            for wait in future.result():
                record = wait()
                self._ledger.write(record)
                self._line.line(format_sequence(record.result, next(self._numbers), self._total))
                yield record
        except Stopped:
            return
        except Exception as error:  # raised when all lanes have ended
            self.stop.set()
            errors.append(error)

    def _on_frame(self, task, index):
        self._go_on()
        self._line.advance(f'{task.name}  frame {index + 1}/{_num_frames(task)}')

    def _go_on(self):
        if self.stop.is_set():
            raise Stopped


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


def _num_frames(task):
    return len(task.sequence.frames)


def segment_together(
    lane: Lane,
    tasks: Sequence[Task],
    folders: Sequence[Path],
    on_frame: Callable[[Task, int], None] = lambda task, index: None,
) -> list[tuple[Timing, dict[str, int]]]:
    """Segments sequences side by side and writes their masks; they are on the disk at the end.

    Nothing is predicted before the first given mask. When a later one brings new objects, these
    are written over the prediction of that frame.

    Args:
      tasks: up to as many as the lane has segmenters.
      folders: for `<frame>.png` of each frame that the protocol asks for.
      on_frame: called with the sequence and the index of each frame that is done.

    Returns:
      For each sequence the time taken, and the checksum of each file by its frame.
    """
    files = [_MaskFiles(folder) for folder in folders]
    timings = follow(lane, tasks, [one.write for one in files], on_frame)
    return [(timing, one.checksums) for timing, one in zip(timings, files)]


class _MaskFiles:
    """The masks of a sequence in a folder, and their checksums."""

    def __init__(self, folder):
        self.checksums, self._folder = {}, folder
        remove_leftovers(folder)  # of a killed run

    def write(self, stem, labels):
        path = self._folder / f'{stem}.png'
        masks.write_labels(path, labels)
        self.checksums[stem] = checksum.of_file(path)


def follow(
    lane: Lane,
    tasks: Sequence[Task],
    writes: Sequence[Callable[[str, np.ndarray], None]],
    on_frame: Callable[[Task, int], None] = lambda task, index: None,
) -> list[Timing]:
    """Segments sequences side by side; see `segment_together`.

    Args:
      writes: for each sequence a function that takes the stem and u8[H, W] ids of each frame that
        the protocol asks for, in a thread of its own.

    Returns:
      The time taken for each.
    """
    followed = [_Followed(*one) for one in zip(lane.segmenters, tasks, writes)]
    watch = runner.Watch(functools.partial(_record, followed), lane.count_compilations)
    driven = runner.drive(
        runner.rounds(map(frames_of, tasks), len(tasks)),
        functools.partial(_advance, followed, lane.step_together),
        functools.partial(_write, followed),
        watch=watch,
    )
    for items in driven:
        for number, (index, _, _) in items:
            on_frame(tasks[number], index)
    return [one.timing for one in followed]


def frames_of(task: Task) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yields (index, stem, u8[H, W, 3]) from the first given mask to the last frame asked for."""
    sequence = task.sequence
    first = min(map(sequence.stems.index, sequence.given))
    last = sequence.stems.index(sequence.required[-1])
    for index in range(first, last + 1):
        yield index, sequence.stems[index], sequence.read_frame(index)


class _Followed:
    """A sequence that is followed from its first given mask on."""

    def __init__(self, segmenter, task, write):
        self.segmenter, self.timing, self.has_begun = segmenter, Timing(), False
        self._task, self._write = task, write

    def take(self, item, step):
        """Takes the next of `frames_of`, by a function that gives the ids of its image."""
        _, stem, frame = item
        new = self._task.read_given(stem) if stem in self._task.sequence.given else None
        if not self.has_begun:
            self.has_begun = True
            return self.segmenter.start(frame, new, num_objects=len(self._task.ids))
        labels = step(frame)
        return labels if new is None else self.segmenter.add_objects(new)

    def write(self, stem, labels):
        """Writes u8[H, W] ids of a frame, if it is asked for."""
        if stem in self._task.sequence.required:
            self._write(stem, labels)


def _advance(followed, step_together, items):
    """Hands a frame of each sequence over; gives a function that waits for their ids."""
    ones = [followed[number] for number, _ in items]
    steps = [one.segmenter.step for one in ones]
    later = [index for index, one in enumerate(ones) if one.has_begun]
    if step_together is not None and len(later) > 1:
        segmenters = [ones[index].segmenter for index in later]
        frames = [items[index][1][-1] for index in later]
        for index, labels in zip(later, step_together(segmenters, frames)):
            steps[index] = lambda frame, labels=labels: labels
    found = [one.take(item, step) for one, (_, item), step in zip(ones, items, steps)]
    return lambda: [np.asarray(labels) for labels in found]


def _write(followed, items, found):
    for (number, (_, stem, _)), labels in zip(items, found):
        followed[number].write(stem, labels)


def _record(followed, items, seconds, compiled):
    """Shares the time between the sequences."""
    for number, _ in items:
        followed[number].timing.record(seconds / len(items), compiled)
