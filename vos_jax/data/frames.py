"""Frames on disk: JPEG through simplejpeg, PNG and WebP through Pillow, always RGB and upright."""

import enum

import cv2
import numpy as np

from vos_jax.data import exif, pictures
from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.names import times

_HEAD = 1 << 17  # bytes of a JPEG that tell its orientation: EXIF, then XMP, of 64 KiB each
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
      path: JPEG, PNG or WebP file, as for `pictures.read_file`; recognised by its content.
      pad: adds a fourth channel without meaning. OpenCV warps four channels in about half of the
        time that it takes for three.
      buffer: u8 array of the result's shape to decode into; only JPEG makes use of it.
      size: (height, width) of the video, or None. A frame that has this size only where it is not
        turned stays as it is stored.
      upright: turns the frame as its EXIF says; False leaves it as it is stored.

    Returns:
      u8[H, W, 3] or u8[H, W, 4], RGB first.
    """
    data = pictures.read_file(path, 'frame')
    return decode_frame(data, path, pad=pad, buffer=buffer, size=size, upright=upright)


def decode_frame(data, name, *, pad=False, buffer=None, size=None, upright=True):
    """As `read_frame`, of the bytes of a file that errors call `name`."""
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


def check_same_size(frame, first, name):
    """Refuses a frame, [H, W, 3], of another (height, width) than the first of its video."""
    if frame.shape[:2] != tuple(first):
        is_turned = frame.shape[1::-1] == tuple(first)
        raise InputError(
            f'{name}: frame of size {times(frame.shape)}, the first of its video is '
            f'{times(first)}; {"turn" if is_turned else "scale"} the frames to one size'
        )


def write_frame(path, frame):
    """Writes u8[H, W, 3] as a JPEG; the file appears whole or not at all."""
    write_bytes(path, pictures.encode_jpeg(frame), sync=False)


def read_size(path, *, upright=True):
    """Reads (height, width) of a frame from the head of its file; `upright` as for `read_frame`."""
    return decode_size(pictures.read_file(path, 'frame'), path, upright=upright)


def decode_size(data, name, *, upright=True):
    """Reads (height, width) from the bytes of a frame, without decoding it."""
    size = pictures.read_size(data, name, 'frame')
    if upright and exif.swaps_axes(exif.read_orientation(data)):
        return size[::-1]
    return size


def fit_of_mask(frame, mask):
    """How a mask lies over a frame, as Fit; by their sizes, which are read of turned frames alone.

    Args:
      frame, mask: files, as for `pictures.read_file`.
    """
    data = pictures.read_file(frame, 'frame', _HEAD)
    if pictures.form_of(data) != 'JPEG':
        data = pictures.read_file(frame, 'frame')
    if exif.read_orientation(data) == 1:
        return Fit.PLAIN
    stored, turned = (read_size(frame, upright=upright) for upright in (False, True))
    size = pictures.read_size(pictures.read_file(mask, 'mask'), mask, 'mask')
    if size not in (stored, turned):
        return Fit.PLAIN
    return Fit.EITHER if stored == turned else Fit.UPRIGHT if size == turned else Fit.STORED


def _decode_jpeg(data, name, pad, buffer):
    with pictures.guarded(name, 'JPEG'):
        size = pictures.decode_jpeg_header(data)[:2]
        pictures.check_size(size, name, 'frame')
        fits = buffer is not None and size == buffer.shape[:2]
        colours = 'RGBX' if pad else 'RGB'
        return pictures.decode_jpeg(data, colorspace=colours, buffer=buffer if fits else None)


def _decode_any(data, name):
    with pictures.opened(data, name, 'frame') as image:
        if image.mode not in ('RGB', 'L', 'P', 'RGBA', 'LA', 'PA', '1'):
            raise InputError(f'{name}: frame of mode {image.mode}; save it as 8-bit RGB')
        return np.array(image.convert('RGB'))


def _fits_only_stored(stored, size, orientation):
    is_portrait = exif.swaps_axes(orientation)
    return is_portrait and tuple(stored) == tuple(size) and stored[0] != stored[1]
