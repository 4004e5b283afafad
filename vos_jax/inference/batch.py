"""Several videos at once: those of one size are stepped together, in one program."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter, step_together


def segment_videos(segmenter, videos, *, batch_size=4):
    """Segments several videos, up to `batch_size` of them at a time.

    Videos with frames of one size and as many object slots are computed together, which an
    accelerator does in little more time than one of them. Where one ends, the next begins.

    Args:
      segmenter: Segmenter whose model, weights and settings are used; its own video stays.
      videos: iterable of (frames, masks): an iterable of u8[H, W, 3], and the u8[H, W] ids of the
        first frame.
      batch_size: most videos at a time.

    Yields:
      (index of the video, index of the frame, u8[H, W] ids); of each video in the order of frames.

    Raises:
      InputError: as `Segmenter.start` and `step`, when the video comes to it.
    """
    if batch_size < 1:
        raise InputError(f'batch_size={batch_size}: at least one video at a time')
    waiting = enumerate(videos)
    running = []
    while True:
        for index, (frames, masks) in itertools.islice(waiting, batch_size - len(running)):
            running.append(_Running(index, segmenter.sibling(), iter(frames), masks))
        if not running:
            return
        running = [one for one in running if one.fetch()]
        later = [one for one in running if one.count]
        results = step_together([one.segmenter for one in later], [one.frame for one in later])
        labels = {one.index: ids for one, ids in zip(later, results)}
        for one in running:
            if not one.count:
                labels[one.index] = one.segmenter.start(one.frame, one.masks)
            yield one.index, one.count, labels[one.index]
            one.count += 1


@dataclasses.dataclass
class _Running:
    """A video under way; `count` frames of it are done."""

    index: int
    segmenter: Segmenter
    frames: Iterator
    masks: np.ndarray
    count: int = 0
    frame: np.ndarray | None = None

    def fetch(self):
        """Takes the next frame; False at the end."""
        self.frame = next(self.frames, None)
        return self.frame is not None
