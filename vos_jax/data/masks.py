"""Masks on disk: PNG files whose pixel value is an object id (protocols.md, sections 5 and 6)."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vos_jax.data.png import decode_plain
from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.names import times
from vos_jax.storage.palette import PALETTE, VOID

MAX_VALUES = 64

_REFUSED = {
    'RGB': 'colour image, need one channel of object ids; save an indexed PNG',
    'RGBA': 'colour image with alpha, need one channel of object ids; save an indexed PNG',
    'LA': 'grey image with alpha, need one channel of object ids; save it without alpha',
    'PA': 'indexed image with alpha, need one channel of object ids; save it without alpha',
    'I': '16- or 32-bit image, need 8-bit object ids; save it as uint8',
    'I;16': '16-bit image, need 8-bit object ids; save it as uint8',
    'I;16B': '16-bit image, need 8-bit object ids; save it as uint8',
    'F': 'floating-point image, need 8-bit object ids; save it as uint8',
}
# Pillow stretches grey PNGs of 2 and 4 bits to 0..255; the ids are the values before that.
_STRETCH = {'L;2': 85, 'L;4': 17}


def read_labels(path, size=None, *, binary=False):
    """Reads the ids of a mask; the palette of an indexed file is never looked at.

    Args:
      path: indexed, grey or 1-bit PNG.
      size: (height, width) the mask must have, or None.
      binary: the data set is in 0/255 form, so that 255 is id 1 and not void. A fact about a whole
        data set (see `is_binary`), never to be guessed for one file.

    Returns:
      u8[H, W], 0 background, 255 void.
    """
    return decode_labels(_read(path), path, size, binary=binary)


def decode_labels(data, name, size=None, *, binary=False):
    """Decodes the ids of a mask.

    Args:
      data: bytes of the file.
      name: what errors call it.
      size, binary: as for `read_labels`.

    Returns:
      u8[H, W], 0 background, 255 void.
    """
    labels = _decode(data, name)
    if size is not None and labels.shape != tuple(size):
        raise InputError(
            f'{name}: mask of size {times(labels.shape)}, its frame is {times(size)}; '
            'resize the mask by nearest neighbour'
        )
    return _as_binary(labels, name) if binary else labels


def write_labels(path, labels):
    """Writes ids as an indexed PNG with the palette above; the file appears whole or not at all.

    Args:
      path: file to write.
      labels: u8[H, W].
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f'labels must be u8[H, W], got {labels.dtype}{list(labels.shape)}')
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format='PNG', compress_level=3)
    write_bytes(path, buffer.getvalue(), sync=False)


def is_binary(paths):
    """Says whether a data set is in 0/255 form: 255 occurs and no mask holds a value in 1..254.

    Args:
      paths: masks of the data set. Reading ends at the first id, so it mostly reads one file.
    """
    has_255 = False
    for path in paths:
        values = np.flatnonzero(_counts(_decode(_read(path), path)))
        if np.any((values > 0) & (values < VOID)):
            return False
        has_255 |= VOID in values
    return has_255


def object_ids(labels):
    """Gives the ids in a mask, ascending, without background and void, as int[N]."""
    return np.flatnonzero(_counts(labels)[1:VOID]) + 1


def _read(path):
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(
            f'{path}: this mask is missing; add it or correct the data folder'
        ) from None
    except OSError as error:
        raise InputError(f'{path}: unreadable mask ({error}); copy the file again') from None


def _decode(data, path):
    labels = decode_plain(data)
    if labels is None:
        labels = _decode_any(data, path)
    _check_values(labels, path)
    return labels


def _decode_any(data, path):
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_form(image, path)
            stretch = _STRETCH.get(image.tile[0].args if image.tile else None, 1)
            return np.array(image, dtype=np.uint8) // np.uint8(stretch)
    except UnidentifiedImageError:
        raise InputError(f'{path}: not an image; copy the mask again') from None
    except (OSError, SyntaxError, EOFError) as error:
        raise InputError(f'{path}: unreadable mask ({error}); copy the file again') from None


def _check_form(image, path):
    if image.format != 'PNG':
        raise InputError(
            f'{path}: {image.format} file, masks are PNG (lossy formats mix neighbouring ids); '
            'write the masks as PNG again from their source'
        )
    if image.mode not in ('P', 'L', '1'):
        rule = _REFUSED.get(
            image.mode, f'image of mode {image.mode}, need one channel of 8-bit ids'
        )
        raise InputError(f'{path}: {rule}; see docs/data.md#masks')


def _check_values(labels, path):
    if labels.max() < MAX_VALUES:  # the usual case, at a hundredth of the cost of counting
        return
    num_values = np.count_nonzero(_counts(labels))
    if num_values > MAX_VALUES:
        raise InputError(
            f'{path}: {num_values} different values, at most {MAX_VALUES} are ids: an anti-aliased '
            'or lossy mask; write ids without smoothing, see docs/data.md#masks'
        )


def _as_binary(labels, path):
    if np.any((labels > 1) & (labels < VOID)):
        value = int(labels[(labels > 1) & (labels < VOID)][0])
        raise InputError(
            f'{path}: value {value} in a data set read as binary (0 and 255); '
            'leave out the binary option: these masks hold ids'
        )
    return (labels > 0).astype(np.uint8)


def _counts(labels):
    # OpenCV's histogram takes a tenth of the time of np.bincount, which widens to int64 first.
    return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
