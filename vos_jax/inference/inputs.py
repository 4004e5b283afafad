"""Frames and masks that callers give: checked, each wrong one told in one line."""

import numpy as np

from vos_jax.errors import InputError
from vos_jax.storage.palette import VOID


def checked_frame(frame):
    """The frame u8[H, W, 3] as an array of our own, or InputError."""
    # A copy: it is memorised at the next step, when the caller's buffer may hold another frame.
    frame = np.array(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f'frame of {frame.dtype}{list(frame.shape)}; needed: uint8 [height, width, 3], RGB'
        )
    return frame


def checked_masks(masks, size):
    """The masks u8[H, W] of a frame of size (H, W), or InputError."""
    masks = np.asarray(masks)
    if masks.dtype != np.uint8 or masks.shape != tuple(size):
        raise InputError(
            f'masks of {masks.dtype}{list(masks.shape)}; needed: uint8 {list(size)}, object ids'
        )
    return masks


def ids_of(masks):
    """Ids in masks, rising, without background and void."""
    return [int(number) for number in np.unique(masks) if number not in (0, VOID)]
