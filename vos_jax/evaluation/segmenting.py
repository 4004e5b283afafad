"""Segments one sequence: frames are read ahead and masks written behind by threads of their own."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vos_jax.data import masks
from vos_jax.evaluation.protocols import Task
from vos_jax.storage import checksum

_READ_AHEAD = 4
_WRITE_BEHIND = 32
_END = object()


@dataclasses.dataclass
class Timing:
    """Time of the model on the frames of one sequence; what compiled is counted apart.

    Attributes:
      frames: frames segmented without compilation.
      seconds: their time, from the frame in host memory to the ids in host memory.
      compiled_frames: frames during which something was compiled.
      compiled_seconds: their time.
    """

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


def segment(
    segmenter,
    task: Task,
    folder: Path,
    *,
    count_compilations: Callable[[], int] = lambda: 0,
    on_frame: Callable[[int], None] = lambda index: None,
) -> tuple[Timing, dict[str, int]]:
    """Segments a sequence and writes its masks; they lie on the disk when this returns.

    Nothing is predicted before the first given mask. When a later one brings new objects, these
    are written over the prediction of that frame.

    Args:
      segmenter: has `start`, `step` and `add_objects` (`vos_jax.inference.segmenter`).
      task: the sequence and the masks given.
      folder: for `<frame>.png` of each frame that the protocol asks for.
      count_compilations: number of compilations so far in this thread.
      on_frame: called with the index of each frame that is done.

    Returns:
      The time taken, and the checksum of each file by its frame.
    """
    timing, given = Timing(), set(task.sequence.given)
    required = set(task.sequence.required)
    started = False
    with MaskWriter(folder) as writer:
        for index, (stem, frame) in enumerate(read_ahead(task)):
            if not (started or stem in given):
                continue
            new = task.read_given(stem) if stem in given else None
            before, start_s = count_compilations(), time.perf_counter()
            labels = _advance(segmenter, frame, new, None if started else len(task.ids))
            timing.record(time.perf_counter() - start_s, count_compilations() > before)
            started = True
            if stem in required:
                writer.put(stem, labels)
            on_frame(index)
    return timing, writer.checksums


def _advance(segmenter, frame, new, num_objects):
    """Labels of the next frame; `num_objects` is given for the first one only."""
    if num_objects is not None:
        return segmenter.start(frame, new, num_objects=num_objects)
    labels = segmenter.step(frame)
    return labels if new is None else segmenter.add_objects(new)


def read_ahead(task: Task) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (stem, u8[H, W, 3]) up to the last frame asked for, read by another thread."""
    sequence = task.sequence
    last = sequence.stems.index(sequence.required[-1])
    ready = queue.Queue(_READ_AHEAD)
    stop = threading.Event()

    def read():
        try:
            for index in range(last + 1):
                if stop.is_set():
                    return
                ready.put((sequence.stems[index], sequence.read_frame(index)))
            ready.put(_END)
        except Exception as error:  # raised where the frames are used
            ready.put(error)

    threading.Thread(target=read, name='read frames', daemon=True).start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        while not ready.empty():  # a reader that waits for room sees the stop
            ready.get_nowait()


class MaskWriter:
    """Writes masks in a thread; leaving the context waits for it and raises what went wrong.

    Attributes:
      checksums: CRC-32 of each file by its stem, complete after the context.
    """

    def __init__(self, folder: Path):
        self.checksums: dict[str, int] = {}
        self._folder = folder
        self._waiting = queue.Queue(_WRITE_BEHIND)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name='write masks', daemon=True)

    def put(self, stem: str, labels: np.ndarray) -> None:
        """Hands over u8[H, W] ids; raises the error of an earlier mask."""
        if self._error is not None:
            raise self._error
        self._waiting.put((stem, labels))

    def __enter__(self):
        for left in self._folder.glob('.*.tmp'):  # of a run that was killed
            left.unlink()
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._waiting.put(_END)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self):
        while (item := self._waiting.get()) is not _END:
            if self._error is not None:
                continue  # keeps taking, so that nobody waits for room
            stem, labels = item
            path = self._folder / f'{stem}.png'
            try:
                masks.write_labels(path, labels)
                self.checksums[stem] = checksum.of_file(path)
            except Exception as error:  # raised in the thread that hands over
                self._error = error
