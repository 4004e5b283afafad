"""Which frames and objects make a clip."""

import cv2
import numpy as np

from vos_jax.storage.palette import VOID

_TRIES = 2000  # of a draw that must begin at certain frames, before it is made to
_FEW_IDS = 16  # up to here one comparison per id is faster than a histogram


def draw_frames(rng, num_frames, length, max_gap, reverse=0.5, reference='first'):
    """Draws the frames of a clip.

    Each gap is drawn from 1..max_gap; a video too short for that takes the largest gap that fits.
    No frame comes twice, unless the video has fewer frames than the clip.

    Args:
      num_frames: frames of the video.
      length: frames of the clip.
      max_gap: largest gap between neighbours, at least 1.
      reverse: probability of the opposite direction.
      reference: 'first', or 'random': the clip's first frame is any frame of the video, on its own,
        and the rule above holds for the others (CFBI: reference, previous and current frames).

    Returns:
      int[T], indices of frames.
    """
    if reference == 'random' and length > 1:
        following = draw_frames(rng, num_frames, length - 1, max_gap, reverse)
        others = np.delete(np.arange(num_frames), following)
        others = others if len(others) else np.arange(num_frames)
        return np.append(others[rng.integers(len(others))], following)
    offsets = _draw_offsets(rng, length, num_frames - 1, max_gap)
    indices = rng.integers(0, num_frames - offsets[-1]) + offsets
    return indices[::-1] if rng.random() < reverse else indices


def draw_frames_from(rng, shown, length, max_gap, reverse=0.5, reference='first'):
    """Draws as `draw_frames` does, given where the first frame may be: shown bool[N], one or more.

    Where no clip of `draw_frames` begins at these frames (an object that appears at the end of a
    video that is never played backwards), the gaps are smaller, and at last frames repeat.
    """
    num_frames = len(shown)
    for _ in range(_TRIES):
        indices = draw_frames(rng, num_frames, length, max_gap, reverse, reference)
        if shown[indices[0]]:
            return indices
    first = rng.choice(np.flatnonzero(shown))
    if reference == 'random' and length > 1:
        return np.append(first, draw_frames(rng, num_frames, length - 1, max_gap, reverse))
    is_reversed = rng.random() < reverse
    room = first if is_reversed else num_frames - 1 - first
    offsets = _draw_offsets(rng, length, room, max_gap)
    return first - offsets if is_reversed else first + offsets


def _draw_offsets(rng, length, room, max_gap):
    """Distances from the first frame of a clip, int[T], up to `room`."""
    steps = max(length - 1, 1)
    if room < steps:
        return np.arange(length) * room // steps
    gaps = rng.integers(1, min(max_gap, room // steps) + 1, size=length - 1)
    return np.concatenate([[0], np.cumsum(gaps)]).astype(int)


def count_pixels(labels):
    """Pixels of each id, as int[256] with 0 for background and void."""
    top = int(labels.max())
    if top > _FEW_IDS:
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel().astype(int)
        counts[[0, VOID]] = 0
        return counts
    counts = np.zeros(256, int)
    for object_id in range(1, top + 1):
        counts[object_id] = np.count_nonzero(labels == object_id)
    return counts


def choose_objects(rng, first_labels, num_slots, min_pixels):
    """Puts the objects of a clip's first frame into random slots.

    Args:
      first_labels: u8[H, W], ids in the first frame, after the crop.
      num_slots: K. Of more objects the most visible are kept.
      min_pixels: an object that shows fewer is left out; it becomes background.

    Returns:
      (ids, num_left_out): ids is int[K], the id in each slot, 0 for a free one; num_left_out counts
      the objects that were visible but found no slot.
    """
    counts = count_pixels(first_labels)
    visible = np.flatnonzero(counts >= max(min_pixels, 1))
    kept = visible[np.argsort(-counts[visible], kind='stable')][:num_slots]
    ids = np.zeros(num_slots, int)
    ids[rng.permutation(num_slots)[: len(kept)]] = kept
    return ids, len(visible) - len(kept)


def to_slots(labels, ids, out=None):
    """Turns ids u8[...], 255 void, into slots: s + 1 where slot s is, 0 for ids without one, void.

    Args:
      ids: int[K], the id in each slot, 0 for a free one.
      out: contiguous array for the result, such as `labels`.
    """
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    for slot, object_id in enumerate(ids):
        if object_id:
            table[object_id] = slot + 1
    out = np.empty_like(labels) if out is None else out
    rows, slots = labels.reshape(len(labels), -1), out.reshape(len(labels), -1)
    cv2.LUT(rows, table, dst=slots)  # a seventh of the time of table[labels]
    return out
