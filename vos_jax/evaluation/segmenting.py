"""Segments one sequence and writes its masks."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vos_jax.data import masks
from vos_jax.evaluation.protocols import Task
from vos_jax.inference import runner
from vos_jax.storage import checksum


@dataclasses.dataclass
class Timing:
    """Time of the frames of one sequence; what compiled is counted apart.

    Attributes:
      frames: frames segmented without compilation.
      seconds: their time, as `runner.Watch` takes it.
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
    """Segments a sequence and writes its masks; they are on the disk when this returns.

    Nothing is predicted before the first given mask. When a later one brings new objects, these
    are written over the prediction of that frame.

    Args:
      segmenter: has `start`, `step` and `add_objects` (`vos_jax.inference.segmenter`); best a lazy
        one.
      task: the sequence and the masks given.
      folder: for `<frame>.png` of each frame that the protocol asks for.
      count_compilations: number of compilations so far in this thread.
      on_frame: called with the index of each frame that is done.

    Returns:
      The time taken, and the checksum of each file by its frame.
    """
    timing, writer = Timing(), MaskWriter(folder, set(task.sequence.required))
    done = runner.drive(
        frames_of(task),
        _Following(segmenter, task).advance,
        writer.write,
        watch=runner.Watch(timing.record, count_compilations),
    )
    for index, _, _ in done:
        on_frame(index)
    return timing, writer.checksums


class _Following:
    """Takes a sequence from its first given mask on."""

    def __init__(self, segmenter, task):
        self._segmenter, self._task = segmenter, task
        self._given, self._has_begun = set(task.sequence.given), False

    def advance(self, item):
        """Hands the next frame over; gives a function that waits for its ids."""
        _, stem, frame = item
        new = self._task.read_given(stem) if stem in self._given else None
        if not self._has_begun:
            self._has_begun = True
            labels = self._segmenter.start(frame, new, num_objects=len(self._task.ids))
        else:
            labels = self._segmenter.step(frame)
            labels = labels if new is None else self._segmenter.add_objects(new)
        return functools.partial(np.asarray, labels)


def frames_of(task: Task) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yields (index, stem, u8[H, W, 3]) from the first given mask to the last frame asked for."""
    sequence = task.sequence
    first = min(map(sequence.stems.index, sequence.given))
    last = sequence.stems.index(sequence.required[-1])
    for index in range(first, last + 1):
        yield index, sequence.stems[index], sequence.read_frame(index)


class MaskWriter:
    """Writes the masks of a sequence.

    Attributes:
      checksums: CRC-32 of each file by its stem.
    """

    def __init__(self, folder: Path, stems: set[str]):
        """
        Args:
          folder: for `<stem>.png`; what a killed run left half written there is removed.
          stems: of the frames that are written.
        """
        self.checksums: dict[str, int] = {}
        self._folder, self._stems = folder, stems
        for left in folder.glob('.*.tmp'):
            left.unlink()

    def write(self, item: tuple, labels: np.ndarray) -> None:
        """Writes u8[H, W] ids of an item of `frames_of`, if its frame is wanted."""
        _, stem, _ = item
        if stem in self._stems:
            path = self._folder / f'{stem}.png'
            masks.write_labels(path, labels)
            self.checksums[stem] = checksum.of_file(path)
