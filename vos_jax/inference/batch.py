"""Several videos at once: those of one size are stepped together, in one program."""

import collections

from vos_jax.errors import InputError
from vos_jax.inference.runner import rounds
from vos_jax.inference.segmenter import step_together


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
