"""Files of pictures, opened with care: forms seen in their content, sizes checked before decoding.

All frames and masks come through here, so that a damaged, hostile or foreign file is one line for
every command. JPEG is read and written by simplejpeg, or by Pillow, more slowly, where that is not
installed: the same pixels are read, but the last bits of what is written may differ.
"""

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vos_jax.data import png
from vos_jax.data.png import MAX_PIXELS
from vos_jax.errors import InputError

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_OTHER_STARTS = {
    b'GIF8': 'GIF',
    b'BM': 'BMP',
    b'II*\0': 'TIFF',
    b'MM\0*': 'TIFF',
    b'DDS ': 'DDS',
    b'8BPS': 'Photoshop',
    b'%PDF': 'PDF',
    b'\0\0\0\x0cjP': 'JPEG 2000',
    b'\xffO\xffQ': 'JPEG 2000',
    b'\0\0\0\x0cJXL': 'JPEG XL',
    b'\xff\n': 'JPEG XL',
}
_STILLS = (b'heic', b'heix', b'heim', b'heis', b'mif1', b'avif')  # MP4 and MOV have others


def form_of(data):
    """What a file is by its content: 'PNG', 'JPEG', 'WebP', another name, or '' if unknown."""
    if data[:8] == png.SIGNATURE:
        return 'PNG'
    if data[:3] == b'\xff\xd8\xff':
        return 'JPEG'
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return 'WebP'
    if data[4:8] == b'ftyp':
        return 'HEIC or AVIF' if data[8:12] in _STILLS else 'video'
    return next((name for start, name in _OTHER_STARTS.items() if data.startswith(start)), '')


def read_file(file, kind, most=None):
    """The bytes, or the first `most`, of a file of a `kind` as 'mask'; InputError where it fails.

    Args:
      file: a path, or anything else with `read_bytes()`: a member of an archive, a part of a shard.
    """
    try:
        if isinstance(file, str | Path):
            with open(file, 'rb') as opened:
                return opened.read(most)
        return file.read_bytes(most) if most else file.read_bytes()
    except FileNotFoundError:
        raise InputError(f'{file}: this {kind} is missing; copy the data set again') from None
    except (OSError, MemoryError) as error:
        raise InputError(f'{file}: unreadable {kind} ({error}); copy the file again') from None


@contextlib.contextmanager
def guarded(name, kind):
    """Turns what decoders raise into one line that names the file and its kind, such as 'mask'."""
    try:
        yield
    except (InputError, ImportError):
        raise
    except UnidentifiedImageError:
        raise InputError(f'{name}: unreadable {kind} (damaged); copy the file again') from None
    # Whatever Pillow and simplejpeg raise for files that are cut, damaged, or made to do harm.
    except Exception as error:
        text = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(f'{name}: unreadable {kind} ({text}); copy the file again') from None


@contextlib.contextmanager
def opened(data, name, kind):
    """Opens a PNG, JPEG or WebP with Pillow, as told by its content; within limits, and guarded."""
    with guarded(name, kind):
        read_size(data, name, kind)
        if form_of(data) == 'PNG':
            png.check(data)
        with _open(data) as image:
            check_size((image.height, image.width), name, kind)
            yield image


def read_size(data, name, kind):
    """(height, width) as stored by the head of a PNG, JPEG or WebP that may be decoded.

    Errors call the file `name`, and what it is `kind`, 'frame' or 'mask'.
    """
    form = form_of(data)
    with guarded(name, kind):
        if form == 'PNG':
            size = struct.unpack('>II', data[16:24])[::-1]
        elif form == 'JPEG':
            size = decode_jpeg_header(data)[:2]
        elif form == 'WebP':
            with _open(data) as image:
                size = image.height, image.width
        elif form:
            accepted = 'PNG' if kind == 'mask' else 'JPEG, PNG or WebP'
            raise InputError(f'{name}: {form} file; {kind}s are {accepted}, convert it')
        else:
            raise InputError(f'{name}: unreadable {kind} (not an image); copy the file again')
    check_size(size, name, kind)
    return tuple(size)


def _open(data):
    return Image.open(io.BytesIO(data), formats=('PNG', 'JPEG', 'WEBP'))


def check_size(size, name, kind):
    """Refuses a picture without pixels, or with more than could be meant."""
    height, width = size
    if not height or not width:
        raise InputError(f'{name}: {kind} of size {width}x{height}; copy the file again')
    if height * width > MAX_PIXELS:
        raise InputError(
            f'{name}: {kind} of size {width}x{height}, at most {MAX_PIXELS / 1e6:.0f} million '
            'pixels are read; scale it down, or copy the file again if it should be smaller'
        )


def decode_jpeg(data, colorspace='RGB', buffer=None):
    """u8[H, W, 3], or u8[H, W, 4] with a fourth channel without meaning for 'RGBX'.

    Args:
      data: bytes of a file.
      colorspace: 'RGB' or 'RGBX'.
      buffer: u8 array of the result's shape to decode into, or None.

    Raises:
      ValueError: for what is no whole JPEG.
    """
    if simplejpeg is not None:
        return simplejpeg.decode_jpeg(data, colorspace=colorspace, buffer=buffer)
    try:
        frame = np.asarray(_open(data).convert('RGB'))
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error)) from error
    if colorspace == 'RGBX':
        frame = np.pad(frame, ((0, 0), (0, 0), (0, 1)))
    if buffer is None:
        return frame
    buffer[...] = frame
    return buffer


def decode_jpeg_header(data):
    """(height, width, ...) of a JPEG."""
    if simplejpeg is not None:
        return simplejpeg.decode_jpeg_header(data)
    with _open(data) as image:
        return image.height, image.width


def encode_jpeg(frame, quality=90):
    """Bytes of a file of u8[H, W, 3], its colours at full resolution."""
    frame = np.ascontiguousarray(frame)
    if simplejpeg is not None:
        return simplejpeg.encode_jpeg(frame, quality, 'RGB', '444')
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, 'JPEG', quality=quality, subsampling=0)
    return buffer.getvalue()
