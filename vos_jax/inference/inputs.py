"""Frames and masks that callers give: checked, each wrong one reported in one line."""

import numpy as np

from vos_jax.errors import InputError
from vos_jax.inference.program.vos_loader.video import ids_of


def checked_frame(frame, size=None):
    """The frame u8[H, W, 3] as an array of our own, or InputError.

    Args:
      frame: what a caller gives.
      size: (H, W) of the video, where it has begun.
    """
    # A copy: it is memorised at the next step, when the caller's buffer may hold another frame.
    frame = np.array(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f'frame of {frame.dtype}{list(frame.shape)}; needed: uint8 [height, width, 3], RGB'
        )
    if size is not None and frame.shape[:2] != tuple(size):
        raise InputError(
            f'frame of size {frame.shape[:2]} in a video of size {tuple(size)}; scale the frames '
            'to one size'
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


def check_shows_object(masks):
    """Refuses first masks without an object."""
    if not ids_of(masks):
        raise InputError('the first masks show no object; give at least one pixel an id 1..254')
