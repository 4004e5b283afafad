"""Pictures of masks: object colours over the frame, with contours."""

import cv2
import numpy as np

from vos_jax.data.masks import PALETTE

_COLOURS = np.asarray(PALETTE, np.uint8).reshape(256, 3)


def overlay(frame, labels, opacity=0.5, colours=_COLOURS):
    """Draws masks over a frame.

    Args:
      frame: u8[H, W, 3].
      labels: u8[H, W], object ids.
      opacity: of the masks, 0..1; contours are opaque.
      colours: u8[256, 3] by id; default: the palette's.

    Returns:
      u8[H, W, 3].
    """
    coloured = np.where(labels[..., None] > 0, colours[labels], frame)
    mixed = cv2.addWeighted(coloured, opacity, frame, 1.0 - opacity, 0.0)
    kernel = np.ones((3, 3), np.uint8)
    edges = cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)
    return np.where(
        edges[..., None], colours[np.maximum(labels, cv2.dilate(labels, kernel))], mixed
    )


def side_by_side(images, gap_px=4):
    """Joins u8[H, W, 3] images of one height in a row, white between them."""
    white = np.full((images[0].shape[0], gap_px, 3), 255, np.uint8)
    parts = [part for image in images for part in (white, image)][1:]
    return np.concatenate(parts, axis=1)
