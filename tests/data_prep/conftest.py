"""Small data sets in their published layouts, drawn by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.squares import Square, draw_labels
from vos_jax.data.frames import write_frame
from vos_jax.data.masks import write_labels
from vos_jax.data.scenes import write_lists

SIZE = (32, 48)


def draw_mask(num_objects, t):
    """Squares of 8 pixels, one for each object, that move to the right."""
    squares = [
        Square(number + 1, 4 + 6 * number, 4 + 14 * number, 8, 8, right=1)
        for number in range(num_objects)
    ]
    return draw_labels(squares, t + 1, SIZE)[t]


def draw_frame(mask, seed):
    """An image that is the same for the same arguments."""
    noise = np.random.default_rng(seed).integers(0, 100, (*mask.shape, 3))
    return (noise + 50 * mask[..., None]).astype(np.uint8)


@pytest.fixture
def davis(tmp_path):
    """Root of a set in the layout of DAVIS: train a (2 objects), b, c; val d."""
    root = tmp_path / 'DAVIS'
    for seed, (name, num_objects) in enumerate({'a': 2, 'b': 1, 'c': 1, 'd': 1}.items()):
        for t in range(3):
            mask = draw_mask(num_objects, t)
            frame = draw_frame(mask, 10 * seed + t)
            write_frame(root / 'JPEGImages/480p' / name / f'{t:05d}.jpg', frame)
            write_labels(root / 'Annotations/480p' / name / f'{t:05d}.png', mask)
    write_lists(root, {'train': 'abc', 'val': 'd'})
    return root


@pytest.fixture
def youtube_vos(tmp_path):
    """Root of a set in the layout of YouTube-VOS; in valid, object 5 appears in frame 00010."""
    root = tmp_path / 'YouTubeVOS'
    for split in ('train', 'valid'):
        for t in range(4):
            mask = draw_mask(2, t)
            mask[mask == 2] = 5 if t >= 2 else 0
            stem = f'{5 * t:05d}'
            write_frame(root / split / 'JPEGImages/v' / f'{stem}.jpg', draw_frame(mask, t))
            if split == 'valid':
                mask[mask == 1] *= t == 0
            if split == 'train' or t in (0, 2):
                write_labels(root / split / 'Annotations/v' / f'{stem}.png', mask)
        objects = {
            '1': {'category': 'dog', 'frames': ['00000', '00005', '00010', '00015']},
            '5': {'category': 'cat', 'frames': ['00010', '00015']},
        }
        text = json.dumps({'videos': {'v': {'objects': objects}}})
        (root / split / 'meta.json').write_text(text)
    return root


@pytest.fixture
def write_image(tmp_path):
    """Returns a function: (path below the test's folder, array) -> file, JPEG or PNG by name."""

    def write(path, array):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
        return path

    return write
