"""JPEG by simplejpeg, or by Pillow, more slowly, where that is not installed.

What is read has the same pixels; what is written may differ in the last bits.
"""

import io

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None


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
    frame = np.asarray(_open(data).convert('RGB'))
    if colorspace == 'RGBX':
        frame = np.concatenate([frame, np.full((*frame.shape[:2], 1), 255, np.uint8)], axis=-1)
    if buffer is None:
        return frame
    buffer[...] = frame
    return buffer


def decode_jpeg_header(data):
    """(height, width, ...) of a file.

    Raises:
      ValueError: for what is no JPEG.
    """
    if simplejpeg is not None:
        return simplejpeg.decode_jpeg_header(data)
    image = _open(data, whole=False)
    return image.height, image.width


def encode_jpeg(frame, quality=90, colorspace='RGB'):
    """Bytes of a file of u8[H, W, 3], its colours at full resolution."""
    frame = np.ascontiguousarray(frame)
    if simplejpeg is not None:
        return simplejpeg.encode_jpeg(frame, quality, colorspace, '444')
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, 'JPEG', quality=quality, subsampling=0)
    return buffer.getvalue()


def _open(data, whole=True):
    try:
        image = Image.open(io.BytesIO(data), formats=('JPEG',))
        if whole:
            image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from error
    return image
