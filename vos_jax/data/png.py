"""The quick way through the PNG files that most masks are."""

import dataclasses
import struct
import zlib

import deflate  # inflates masks in a fifth of the time of zlib
import numpy as np

MAX_PIXELS = 2**26  # of any picture that is read: 8192x8192

SIGNATURE = b'\x89PNG\r\n\x1a\n'


@dataclasses.dataclass(frozen=True)
class Head:
    """How the pixels of a PNG are stored: `palette`, u8[N, 3], has no colours without one."""

    bits: int
    is_indexed: bool
    is_colour: bool
    palette: np.ndarray


def head_of(data):
    """The Head of a PNG by its bytes; None for any other file."""
    if data[:8] != SIGNATURE or len(data) < 33:
        return None
    palette = next(chunks(data, b'PLTE'), b'')
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    return Head(data[24], data[25] == 3, data[25] in (2, 6), colours)


def decode_plain(data):
    """Decodes an 8-bit PNG of one channel whose rows are stored without filter.

    Indexed masks are nearly always stored so, and then a row is its pixels behind a zero: inflating
    is all there is to do, in half of the time of a general decoder.

    Returns:
      u8[H, W], grey values or indices; None for any other file, damaged ones among them.
    """
    if data[:8] != SIGNATURE or data[12:16] != b'IHDR' or len(data) < 33:
        return None
    width, height, bits, colour, _, _, interlace = struct.unpack('>IIBBBBB', data[16:29])
    is_one_channel, size = colour in (0, 3), height * (width + 1)
    if bits != 8 or not is_one_channel or interlace or not 0 < width * height <= MAX_PIXELS:
        return None
    try:  # more than `size` bytes are an error too
        pixels = deflate.zlib_decompress(b''.join(chunks(data, b'IDAT')), size)
    except deflate.DeflateError:
        return None
    if len(pixels) != size:
        return None
    rows = np.frombuffer(pixels, np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:].copy()


def encode_plain(labels):
    """Encodes u8[H, W] as such a PNG: grey, so that every reader gives back the numbers.

    Level 3: larger than at 6, but zlib inflates it in half of the time.
    """
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = labels
    head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    chunks = ((b'IHDR', head), (b'IDAT', zlib.compress(rows.data, level=3)), (b'IEND', b''))
    return SIGNATURE + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks
    )


def chunks(data, kind):
    for found, start, end in _places(data):
        if found == kind:
            yield data[start:end]


def check(data):
    """Compares the checksums of all chunks that a decoder needs; Pillow does not see all damage.

    Raises:
      ValueError: for a PNG that is cut or damaged.
    """
    for kind, start, end in _places(data):
        needed = not kind[0] & 32  # capital: not only about the picture
        if needed and data[end : end + 4] != struct.pack('>I', zlib.crc32(data[start - 4 : end])):
            raise ValueError(f'its part {kind!r} is damaged')
        if kind == b'IEND':
            return
    raise ValueError('cut')


def _places(data):
    """(kind, begin and end of its content) of each chunk."""
    start = len(SIGNATURE)
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4], 'big')
        yield data[start + 4 : start + 8], start + 8, start + 8 + length
        start += length + 12
