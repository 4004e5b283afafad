"""Files of pictures, opened with care: forms seen in their content, sizes checked before decoding.

All frames and masks come through here, so that a damaged, hostile or foreign file is one line for
every command.
"""

import contextlib
import io
import struct
import zlib

from PIL import Image, UnidentifiedImageError

from vos_jax.data import jpeg, png
from vos_jax.data.png import MAX_PIXELS
from vos_jax.errors import InputError

_PNG_START = b'\x89PNG\r\n\x1a\n'
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
# All that Pillow and simplejpeg raise for files that are cut, damaged, or made to do harm.
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def form_of(data):
    """What a file is by its content: 'PNG', 'JPEG', 'WebP', another name, or '' if unknown."""
    if data[:8] == _PNG_START:
        return 'PNG'
    if data[:3] == b'\xff\xd8\xff':
        return 'JPEG'
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return 'WebP'
    if data[4:8] == b'ftyp':
        return 'HEIC or AVIF' if data[8:12] in _STILLS else 'video'
    return next((name for start, name in _OTHER_STARTS.items() if data.startswith(start)), '')


@contextlib.contextmanager
def guarded(name, kind):
    """Turns what decoders raise into one line that names the file and its kind, such as 'mask'."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f'{name}: unreadable {kind} (damaged); copy the file again') from None
    except _FAULTS as error:
        text = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(f'{name}: unreadable {kind} ({text}); copy the file again') from None


@contextlib.contextmanager
def opened(data, name, kind):
    """Opens a PNG, JPEG or WebP with Pillow, as told by its content; within limits, and guarded."""
    with guarded(name, kind):
        read_size(data, name, kind)
        if form_of(data) == 'PNG':
            png.check(data)
        with Image.open(io.BytesIO(data), formats=('PNG', 'JPEG', 'WEBP')) as image:
            check_size((image.height, image.width), name, kind)
            yield image


def read_size(data, name, kind):
    """Reads (height, width) as stored from the head of a file, and checks that it may be decoded.

    Args:
      data: bytes of a PNG, JPEG or WebP file, or its start.
      name: what errors call it.
      kind: 'frame' or 'mask', for errors.
    """
    form = form_of(data)
    with guarded(name, kind):
        if form == 'PNG':
            size = struct.unpack('>II', data[16:24])[::-1]
        elif form == 'JPEG':
            size = jpeg.decode_jpeg_header(data)[:2]
        elif form == 'WebP':
            with Image.open(io.BytesIO(data), formats=('WEBP',)) as image:
                size = image.height, image.width
        elif form:
            raise InputError(f'{name}: {form} file; {kind}s are {_accepted(kind)}, convert it')
        else:
            raise InputError(f'{name}: unreadable {kind} (not an image); copy the file again')
    check_size(size, name, kind)
    return tuple(size)


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


def _accepted(kind):
    return 'PNG' if kind == 'mask' else 'JPEG, PNG or WebP'
