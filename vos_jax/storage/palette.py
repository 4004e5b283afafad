"""Ids of objects in masks: the one that is none, and the colours they are drawn in."""

import numpy as np

VOID = 255  # a pixel of unknown object: neither trained on nor scored


def _voc_palette():
    """Colour of index i by the PASCAL VOC rule: bit 3k + c of i is bit 7 - k of channel c."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for k in range(3):
            bit = (index >> (3 * k + channel)) & 1
            palette[:, channel] |= (bit << (7 - k)).astype(np.uint8)
    return palette


PALETTE = _voc_palette()
"""u8[256, 3]: RGB colour of each id, as the DAVIS tools write it."""
# For the pages: of object 1, 2, ... in turn, in pictures, curves and the studio alike; apart from
# each other, on dark and on light ground.
COLOURS = (
    *('#ff5252', '#2bb673', '#4d8dff', '#e0b000', '#b964f0', '#ff8a1f'),
    *('#17b5d1', '#f05fb4', '#86b81f', '#b08356', '#7c8cf5', '#98a3b0'),
)
