"""Squares that move by whole pixels: the plainest video, whose masks are known without a look."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Square:
    """A rectangle of one object; lengths in pixels, speeds in pixels per frame."""

    label: int
    top: int
    left: int
    height: int
    width: int
    down: int = 0
    right: int = 0

    def box(self, time):
        """(rows, columns) that it covers in a frame."""
        top, left = self.top + self.down * time, self.left + self.right * time
        return (
            slice(max(top, 0), max(top + self.height, 0)),
            slice(max(left, 0), max(left + self.width, 0)),
        )


def draw_labels(squares, num_frames, size):
    """Labels u8[T, H, W] of squares; later ones cover earlier ones.

    >>> draw_labels([Square(label=2, top=0, left=0, height=1, width=2, right=1)], 2, (1, 4))
    array([[[2, 2, 0, 0]],
    <BLANKLINE>
           [[0, 2, 2, 0]]], dtype=uint8)
    """
    labels = np.zeros((num_frames, *size), np.uint8)
    for time in range(num_frames):
        for square in squares:
            labels[time, *square.box(time)] = square.label
    return labels
