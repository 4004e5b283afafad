"""How a picture must be turned to be upright, by the metadata in its file."""

import re
import struct

import numpy as np

from vos_jax.data.png import SIGNATURE, chunks

_ORIENTATION, _SHORT = 0x0112, 3
_XMP = re.compile(rb'tiff:Orientation\s*(?:=\s*["\']|>)\s*([1-8])')


def read_orientation(data):
    """Orientation of a JPEG, PNG or WebP by its bytes: 1 (as it is) to 8, as EXIF numbers them.

    EXIF comes before XMP; what is damaged says nothing.
    """
    blocks = list(_metadata(data))
    found = next(filter(None, map(_of_tiff, blocks)), None)
    if found is None:
        match = next(filter(None, map(_XMP.search, blocks)), None)
        found = int(match[1]) if match else 1
    return found


def swaps_axes(orientation):
    """Whether turning makes a portrait of a landscape."""
    return orientation >= 5


def turn_upright(image, orientation):
    """Turns an array [H, W, ...] as its orientation says; contiguous."""
    if swaps_axes(orientation):
        image = image.swapaxes(0, 1)
    # By orientation after the axes are swapped: is it upside down, is it mirrored?
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(image[::rows, ::columns])


def _metadata(data):
    """Blocks of EXIF or XMP."""
    if data[:3] == b'\xff\xd8\xff':
        yield from _jpeg_segments(data)
    elif data[:8] == SIGNATURE:
        for kind in (b'eXIf', b'iTXt'):
            yield from chunks(data, kind)
    elif data[8:12] == b'WEBP':
        yield from webp_chunks(data, (b'EXIF', b'XMP '))


def _jpeg_segments(data):
    """Segments of applications, which come before the pixels."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF and data[start + 1] != 0xDA:
        if data[start + 1] == 0xFF:  # fill bytes
            start += 1
            continue
        length = int.from_bytes(data[start + 2 : start + 4], 'big')
        if data[start + 1] == 0xE1:
            yield data[start + 4 : start + 2 + length]
        start += 2 + length


def webp_chunks(data, names):
    """Contents of the chunks of these names in a WebP."""
    start = 12
    while start + 8 <= len(data):
        name, length = struct.unpack('<4sI', data[start : start + 8])
        if name in names:
            yield data[start + 8 : start + 8 + length]
        start += 8 + length + length % 2


def _of_tiff(block):
    """The orientation in a block of EXIF, which is a TIFF; None where it has none."""
    tiff = block.removeprefix(b'Exif\0\0')
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return None
    (start,) = struct.unpack(f'{order}I', tiff[4:8])
    (count,) = struct.unpack(f'{order}H', tiff[start : start + 2].ljust(2, b'\0'))
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack(f'{order}HHIH', tiff[at : at + 10])
        if (tag, kind) == (_ORIENTATION, _SHORT):
            return value if 1 <= value <= 8 else None
    return None
