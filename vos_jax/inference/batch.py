"""Several videos at once: those of one size are stepped together, in one program."""

import collections
import functools

import jax

from vos_jax import compilation
from vos_jax.errors import InputError
from vos_jax.inference.runner import Lane, rounds
from vos_jax.inference.segmenter import step_together

_TOGETHER = 4  # videos at a time on an accelerator


def make_lanes(segmenters, batch_size=None):
    """Lanes on which videos are segmented side by side.

    Args:
      segmenters: a Segmenter for each device.
      batch_size: videos that a device segments at a time; None: one on CPUs, up to 4 on
        accelerators.

    Returns:
      A Lane for each.
    """
    return [
        Lane(
            [one.sibling(lazy=True) for _ in range(batch_size or _batch_size(one))],
            functools.partial(jax.default_device, one.program.device),
            compilation.count,
            step_together,
        )
        for one in segmenters
    ]


def _batch_size(segmenter):
    return 1 if segmenter.program.device.platform == 'cpu' else _TOGETHER


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
    masks, running, counts = {}, {}, collections.Counter()

    def frames_of_videos():
        for index, (frames, first) in enumerate(videos):
            masks[index] = first
            yield frames

    for items in rounds(frames_of_videos(), batch_size):
        running = {index: running.get(index) or segmenter.sibling() for index, _ in items}
        later = [(index, frame) for index, frame in items if counts[index]]
        labels = step_together([running[index] for index, _ in later], [f for _, f in later])
        labels = {index: ids for (index, _), ids in zip(later, labels)}
        for index, frame in items:
            if not counts[index]:
                labels[index] = running[index].start(frame, masks[index])
            yield index, counts[index], labels[index]
            counts[index] += 1
