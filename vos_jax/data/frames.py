"""Frames on disk: JPEG through simplejpeg, PNG and WebP through Pillow, always RGB and upright."""

import enum
import mmap
from pathlib import Path

import cv2
import numpy as np

from vos_jax.data import exif, jpeg, pictures
from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')


class Fit(enum.Enum):
    """How masks lie over frames that have an EXIF orientation; PLAIN where there is none."""

    PLAIN = enum.auto()
    UPRIGHT = enum.auto()
    STORED = enum.auto()
    EITHER = enum.auto()  # sizes do not tell


def read_frame(path, *, pad=False, buffer=None, size=None, upright=True):
    """Reads one frame.

    Args:
      path: JPEG, PNG or WebP file; recognised by its content.
      pad: adds a fourth channel without meaning. OpenCV warps four channels in about half of the
        time that it takes for three.
      buffer: u8 array of the result's shape to decode into; only JPEG makes use of it.
      size: (height, width) of the video, or None. A frame that has this size only where it is not
        turned stays as it is stored.
      upright: turns the frame as its EXIF says; False leaves it as it is stored.

    Returns:
      u8[H, W, 3] or u8[H, W, 4], RGB first.
    """
    return decode_frame(read_file(path), path, pad=pad, buffer=buffer, size=size, upright=upright)


def decode_frame(data, name, *, pad=False, buffer=None, size=None, upright=True):
    """Decodes one frame.

    Args:
      data: bytes of a file.
      name: what errors call it.
      pad, buffer, size, upright: as for `read_frame`.

    Returns:
      u8[H, W, 3] or u8[H, W, 4], RGB first.
    """
    form = pictures.form_of(data)
    if form == 'JPEG' or (not form and not str(name).lower().endswith(('.png', '.webp'))):
        frame = _decode_jpeg(data, name, pad, buffer)
    else:
        frame = _decode_any(data, name)
        frame = cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA) if pad else frame
    orientation = exif.read_orientation(data) if upright else 1
    if orientation == 1 or (size and _fits_only_stored(frame.shape[:2], size, orientation)):
        return frame
    return exif.turn_upright(frame, orientation)


def write_frame(path, frame, quality=90):
    """Writes u8[H, W, 3] as a JPEG; the file appears whole or not at all."""
    frame = np.ascontiguousarray(frame)
    write_bytes(path, jpeg.encode_jpeg(frame, quality=quality, colorspace='RGB'), sync=False)


def read_size(path, *, upright=True):
    """Reads (height, width) of a frame from the head of its file; `upright` as for `read_frame`."""
    return decode_size(read_file(path), path, upright=upright)


def decode_size(data, name, *, upright=True):
    """Reads (height, width) from the bytes of a frame, without decoding it."""
    size = pictures.read_size(data, name, 'frame')
    if upright and exif.swaps_axes(exif.read_orientation(data)):
        return size[::-1]
    return size


def read_orientation(path):
    """Orientation of a frame as exif.read_orientation; pages of the file that tell are read."""
    try:
        with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return exif.read_orientation(data)
    except (OSError, ValueError):  # no such file, or an empty one: told when it is read
        return 1


def fit_of_mask(data, name, mask_size):
    """How a mask lies over a frame, as Fit; by their sizes.

    Args:
      data: bytes of the frame.
      name: what errors call it.
      mask_size: function that gives (height, width) of its mask; called only for turned frames.
    """
    orientation = exif.read_orientation(data)
    if orientation == 1:
        return Fit.PLAIN
    stored, turned = (decode_size(data, name, upright=upright) for upright in (False, True))
    size = tuple(mask_size())
    if size not in (stored, turned):
        return Fit.PLAIN
    return Fit.EITHER if stored == turned else Fit.UPRIGHT if size == turned else Fit.STORED


def read_file(path):
    """The bytes of a frame; InputError where it is missing or cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f'{path}: this frame is missing; copy the data set again') from None
    except (OSError, MemoryError) as error:
        raise InputError(f'{path}: unreadable frame ({error}); copy the file again') from None


def _decode_jpeg(data, name, pad, buffer):
    with pictures.guarded(name, 'JPEG'):
        size = jpeg.decode_jpeg_header(data)[:2]
        pictures.check_size(size, name, 'frame')
        fits = buffer is not None and size == buffer.shape[:2]
        colours = 'RGBX' if pad else 'RGB'
        return jpeg.decode_jpeg(data, colorspace=colours, buffer=buffer if fits else None)


def _decode_any(data, name):
    with pictures.opened(data, name, 'frame') as image:
        if image.mode not in ('RGB', 'L', 'P', 'RGBA', 'LA', 'PA', '1'):
            raise InputError(f'{name}: frame of mode {image.mode}; save it as 8-bit RGB')
        return np.array(image.convert('RGB'))


def _fits_only_stored(stored, size, orientation):
    is_portrait = exif.swaps_axes(orientation)
    return is_portrait and tuple(stored) == tuple(size) and stored[0] != stored[1]
