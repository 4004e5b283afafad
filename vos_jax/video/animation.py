"""Animated WebP, which FFmpeg does not read, as a video."""

from fractions import Fraction

import numpy as np
from PIL import Image

from vos_jax.data import exif, pictures
from vos_jax.errors import InputError


def is_animated_webp(path):
    """Whether a file is one, by its head."""
    with open(path, 'rb') as file:
        head = file.read(21)
    is_extended = pictures.form_of(head) == 'WebP' and head[12:16] == b'VP8X'
    return len(head) == 21 and is_extended and bool(head[20] & 2)


def list_durations(path):
    """Seconds for which each frame is shown, as Fractions, by the chunks of the file."""
    frames = exif.webp_chunks(path.read_bytes(), (b'ANMF',))
    return [Fraction(int.from_bytes(frame[12:15], 'little'), 1000) for frame in frames]


def read_images(path):
    """Yields u8[H, W, 3] of each frame, upright.

    Raises:
      InputError: where the file is damaged, after the last frame before that.
    """
    with pictures.guarded(path, 'video'):
        data = path.read_bytes()
        orientation = exif.read_orientation(data)
        pictures.read_size(data, path, 'video')
        image = Image.open(path, formats=('WEBP',))
    with image:
        for number in range(image.n_frames):
            yield exif.turn_upright(_read_image(image, number, path), orientation)


def _read_image(image, number, path):
    try:
        with pictures.guarded(path, 'video'):
            image.seek(number)
            return np.array(image.convert('RGB'))
    except InputError:
        raise InputError(
            f'{path}: damaged after frame {number - 1}; copy the video again, or end before that '
            f'with --stop={number}'
        ) from None
