"""Small data sets, drawn by hand."""

import numpy as np
import pytest
from PIL import Image

from tests.squares import Square, draw_labels
from vos_jax.data.masks import write_labels
from vos_jax.data.scenes import write_lists


@pytest.fixture
def draw():
    """Returns a function: rows of digits ('.' background, 'v' void) -> u8[H, W]."""

    def labels(*rows):
        values = {'.': 0, 'v': 255}
        return np.array(
            [[values.get(c) or int(c.replace('.', '0')) for c in row] for row in rows], np.uint8
        )

    return labels


@pytest.fixture
def write_set(tmp_path):
    """Returns a function that writes u8[T, H, W] labels of each video as a set in the DAVIS layout.

    The frames are PNG files (nothing is lost) of value `paint(labels)`, by default 60 times the id,
    so that each pixel of a frame tells its label.
    """

    def write(videos, root=tmp_path / 'set', split='train', paint=lambda labels: labels * 60):
        for name, labels in videos.items():
            for t, mask in enumerate(labels):
                image = root / 'JPEGImages' / '480p' / name / f'{t:05d}.png'
                image.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.stack([paint(mask)] * 3, axis=-1)).save(image)
                write_labels(root / 'Annotations' / '480p' / name / f'{t:05d}.png', mask)
        write_lists(root, {split: videos})
        return root

    return write


@pytest.fixture
def moving_squares():
    """Returns a function: (number of objects, frames, size) -> u8[T, H, W], squares that move."""

    def labels(num_objects, num_frames, size=(48, 64), side=14):
        squares = [
            Square(i + 1, 6 + 8 * (i % 2), 2 + 20 * i, side, side, down=1, right=1)
            for i in range(num_objects)
        ]
        return draw_labels(squares, num_frames, size)

    return labels
