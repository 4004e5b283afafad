"""Frames on disk: JPEG through simplejpeg, PNG through Pillow, always RGB."""

import io
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes

SUFFIXES = ('.jpg', '.jpeg', '.png')
_PNG_START = b'\x89PNG'


def read_frame(path, *, pad=False, buffer=None):
    """Reads one frame.

    Args:
      path: JPEG or PNG file.
      pad: adds a fourth channel without meaning. OpenCV warps four channels in about half of the
        time that it takes for three.
      buffer: u8 array of the result's shape to decode into; only JPEG makes use of it.

    Returns:
      u8[H, W, 3] or u8[H, W, 4], RGB first.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f'{path}: this frame is missing; copy the data set again') from None
    except OSError as error:
        raise InputError(f'{path}: unreadable frame ({error}); copy the file again') from None
    return decode_frame(data, path, pad=pad, buffer=buffer)


def decode_frame(data, name, *, pad=False, buffer=None):
    """Decodes one frame.

    Args:
      data: bytes of a JPEG or PNG file.
      name: what errors call it.
      pad, buffer: as for `read_frame`.

    Returns:
      u8[H, W, 3] or u8[H, W, 4], RGB first.
    """
    if data[:4] == _PNG_START:
        frame = _decode_png(data, name)
        return cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA) if pad else frame
    try:
        fits = buffer is not None and simplejpeg.decode_jpeg_header(data)[:2] == buffer.shape[:2]
        colours = 'RGBX' if pad else 'RGB'
        return simplejpeg.decode_jpeg(data, colorspace=colours, buffer=buffer if fits else None)
    except ValueError as error:
        kind = 'frame' if str(name).endswith('.png') else 'JPEG'
        raise InputError(f'{name}: unreadable {kind} ({error}); copy the file again') from None


def write_frame(path, frame, quality=90):
    """Writes u8[H, W, 3] as a JPEG; the file appears whole or not at all."""
    frame = np.ascontiguousarray(frame)
    data = simplejpeg.encode_jpeg(frame, quality=quality, colorspace='RGB')
    write_bytes(path, data, sync=False)


def read_size(path):
    """Reads (height, width) of a frame from the head of its file."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise InputError(f'{path}: this frame is missing; copy the data set again') from None
    except OSError as error:
        raise InputError(f'{path}: unreadable frame ({error}); copy the file again') from None


def _decode_png(data, name):
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ('RGB', 'L', 'P', 'RGBA'):
                raise InputError(f'{name}: frame of mode {image.mode}; save it as 8-bit RGB')
            return np.array(image.convert('RGB'))
    except (OSError, SyntaxError) as error:
        raise InputError(f'{name}: unreadable frame ({error}); copy the file again') from None
