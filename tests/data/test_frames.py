"""Frames on disk."""

import numpy as np
import pytest
from PIL import Image

from vos_jax.data import frames
from vos_jax.errors import InputError


def test_channels_are_red_green_blue(tmp_path):
    red = np.zeros((16, 24, 3), np.uint8)
    red[..., 0] = 200
    frames.write_frame(tmp_path / 'a.jpg', red)
    read = frames.read_frame(tmp_path / 'a.jpg')
    assert read.dtype == np.uint8
    assert read.shape == (16, 24, 3)
    assert np.abs(read.astype(int) - red).max() <= 3  # JPEG rounds a flat colour by a few levels


def test_png_frames_lose_nothing(tmp_path, rng):
    frame = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(frame).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(frames.read_frame(tmp_path / 'a.png'), frame)


def test_a_grey_jpeg_gets_three_channels(tmp_path):
    Image.new('L', (8, 8), 90).save(tmp_path / 'a.jpg')
    np.testing.assert_array_equal(frames.read_frame(tmp_path / 'a.jpg'), np.full((8, 8, 3), 90))


def test_the_size_is_read_from_the_head(tmp_path, rng):
    frames.write_frame(tmp_path / 'a.jpg', rng.integers(0, 256, (30, 50, 3), dtype=np.uint8))
    data = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'a.jpg').write_bytes(data[:700])
    assert frames.read_size(tmp_path / 'a.jpg') == (30, 50)


@pytest.mark.parametrize('part', [0.0, 0.3, 0.9])
def test_a_cut_jpeg_is_named(tmp_path, rng, part):
    frames.write_frame(tmp_path / 'a.jpg', rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'a.jpg').write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r'a\.jpg: unreadable JPEG .*copy the file again'):
        frames.read_frame(tmp_path / 'a.jpg')


@pytest.mark.parametrize('name', ['a.jpg', 'a.png'])
def test_a_missing_frame_is_named(tmp_path, name):
    with pytest.raises(InputError, match=rf'{name}: this frame is missing'):
        frames.read_frame(tmp_path / name)
