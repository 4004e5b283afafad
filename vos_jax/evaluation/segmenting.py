"""Segments sequences and writes their masks."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vos_jax.data import masks
from vos_jax.evaluation.protocols import Task
from vos_jax.inference import runner
from vos_jax.storage import checksum
from vos_jax.storage.atomic import remove_leftovers


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


def segment_together(
    segmenters: Sequence,
    tasks: Sequence[Task],
    folders: Sequence[Path],
    *,
    step_together: Callable[[list, list], list] | None = None,
    count_compilations: Callable[[], int] = lambda: 0,
    on_frame: Callable[[Task, int], None] = lambda task, index: None,
) -> list[tuple[Timing, dict[str, int]]]:
    """Segments sequences side by side and writes their masks; they are on the disk at the end.

    Nothing is predicted before the first given mask. When a later one brings new objects, these
    are written over the prediction of that frame.

    Args:
      segmenters: one for each sequence, with `start`, `step` and `add_objects`
        (`vos_jax.inference.segmenter`); best lazy ones.
      tasks: the sequences and the masks given.
      folders: for `<frame>.png` of each frame that the protocol asks for.
      step_together: function of segmenters and frames that does their `step` in one program.
      count_compilations: number of compilations so far in this thread.
      on_frame: called with the sequence and the index of each frame that is done.

    Returns:
      For each sequence the time taken, and the checksum of each file by its frame.
    """
    followed = [_Followed(*one) for one in zip(segmenters, tasks, folders, strict=True)]
    group = _Group(followed, step_together)
    rounds = runner.rounds(map(frames_of, tasks), len(tasks))
    watch = runner.Watch(group.record, count_compilations)
    for items in runner.drive(rounds, group.advance, group.write, watch=watch):
        for number, (index, _, _) in items:
            on_frame(tasks[number], index)
    return [(one.timing, one.writer.checksums) for one in followed]


class _Followed:
    """A sequence that is followed from its first given mask on."""

    def __init__(self, segmenter, task, folder):
        self.segmenter, self.has_begun, self.timing = segmenter, False, Timing()
        self.writer = MaskWriter(folder, set(task.sequence.required))
        self._task, self._given = task, set(task.sequence.given)

    def take(self, item, step):
        """Takes the next frame; gives its ids.

        Args:
          item: of `frames_of`.
          step: function of its image that gives the ids found in it.
        """
        _, stem, frame = item
        new = self._task.read_given(stem) if stem in self._given else None
        if not self.has_begun:
            self.has_begun = True
            return self.segmenter.start(frame, new, num_objects=len(self._task.ids))
        labels = step(frame)
        return labels if new is None else self.segmenter.add_objects(new)


class _Group:
    """Sequences side by side: what `runner.drive` calls with (number, item) of each of them."""

    def __init__(self, followed, step_together):
        self._followed, self._step_together = followed, step_together

    def advance(self, items):
        """Hands a frame of each over; gives a function that waits for their ids."""
        followed = [self._followed[number] for number, _ in items]
        steps = [one.segmenter.step for one in followed]
        later = [index for index, one in enumerate(followed) if one.has_begun]
        if self._step_together is not None and len(later) > 1:
            segmenters = [followed[index].segmenter for index in later]
            frames = [items[index][1][-1] for index in later]
            for index, labels in zip(later, self._step_together(segmenters, frames)):
                steps[index] = lambda frame, labels=labels: labels
        found = [one.take(item, step) for one, (_, item), step in zip(followed, items, steps)]
        return lambda: [np.asarray(labels) for labels in found]

    def write(self, items, found):
        for (number, item), labels in zip(items, found):
            self._followed[number].writer.write(item, labels)

    def record(self, items, seconds, compiled):
        """Shares the time between the sequences."""
        for number, _ in items:
            self._followed[number].timing.record(seconds / len(items), compiled)


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
        remove_leftovers(folder)

    def write(self, item: tuple, labels: np.ndarray) -> None:
        """Writes u8[H, W] ids of an item of `frames_of`, if its frame is wanted."""
        _, stem, _ = item
        if stem in self._stems:
            path = self._folder / f'{stem}.png'
            masks.write_labels(path, labels)
            self.checksums[stem] = checksum.of_file(path)
