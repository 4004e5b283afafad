"""Pasting an object of another clip over a clip: one-object video then trains several objects."""

import cv2
import numpy as np

from vos_jax.storage.palette import VOID


def paste_object(frames, labels, donor_frames, donor_masks, new_id, *, behind=False):
    """Pastes an object, with its motion, over a clip.

    The object covers what is under it, or goes behind the objects of the clip; the labels say
    what is seen. Its edge is softened by one pixel inwards, so that no colour of its old
    background comes along.

    Args:
      frames: u8[T, H, W, 3], changed in place.
      labels: u8[T, H, W] ids, changed in place.
      donor_frames: u8[T, H, W, 3].
      donor_masks: bool[T, H, W], the object in them.
      new_id: id the object gets; must not occur in `labels`.
      behind: the objects of the clip stay in front.
    """
    for t, mask in enumerate(donor_masks):
        if behind:
            mask = mask & ((labels[t] == 0) | (labels[t] == VOID))
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        if not width:
            continue
        box = (slice(y, y + height), slice(x, x + width))
        _blend(frames[t][box], donor_frames[t][box], mask[box])
        labels[t][box][mask[box]] = new_id


def free_id(labels):
    """Smallest id that no pixel of the clip has."""
    return next(number for number in range(1, VOID) if not np.any(labels == number))


def _blend(frame, donor, mask):
    """Lays donor over frame where mask is set; weights run from about 2/3 at its edge to 1."""
    outside = cv2.BORDER_CONSTANT  # the box ends where the object does
    weights = cv2.blur(mask.astype(np.float32), (3, 3), borderType=outside) * mask
    mixed = frame + weights[..., None] * (donor.astype(np.float32) - frame)
    frame[...] = np.rint(mixed).astype(np.uint8)
