"""The quick decoder of plain masks gives what Pillow gives, or nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from vos_jax.data.png import decode_plain


def png(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, format='PNG', **options)
    return buffer.getvalue()


def indexed(labels):
    image = Image.fromarray(labels)
    image.putpalette(bytes(range(256)) * 3)
    return image


@pytest.mark.parametrize('size', [(1, 1), (7, 300), (480, 854)])
def test_indexed_masks_are_decoded(rng, size):
    labels = rng.integers(0, 256, size, dtype=np.uint8)
    np.testing.assert_array_equal(decode_plain(png(indexed(labels))), labels)


@pytest.mark.parametrize(
    'image',
    [
        Image.new('RGB', (5, 4)),
        Image.new('LA', (5, 4)),
        Image.new('1', (5, 4)),
        Image.new('I;16', (5, 4)),
        # Pillow filters the rows of grey images.
        Image.fromarray(np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)),
    ],
    ids=lambda image: image.mode,
)
def test_other_forms_are_left_to_a_general_decoder(image):
    assert decode_plain(png(image)) is None


def test_masks_of_few_bits_are_left_to_a_general_decoder(rng):
    image = indexed(rng.integers(0, 4, (9, 9), dtype=np.uint8))
    assert decode_plain(png(image, bits=2)) is None


def test_damaged_files_are_left_to_a_general_decoder(rng):
    data = png(indexed(rng.integers(0, 256, (40, 50), dtype=np.uint8)))
    for end in range(0, len(data) - 20, 7):
        assert decode_plain(data[:end]) is None
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    assert decode_plain(bytes(flipped)) is None
