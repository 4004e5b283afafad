"""Masks on disk: PNG files whose pixel value is an object id (docs/data.md, "Masks")."""

import functools
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vos_jax.data import pictures
from vos_jax.data.png import decode_plain, head_of
from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.names import times
from vos_jax.storage.palette import PALETTE, VOID

MAX_VALUES = 64

AS_BINARY = 'read it as binary masks (--form=binary, --binary, or binary=True of a data source)'

_REFUSED = {
    'RGB': 'colour image, need one channel of object ids; save an indexed PNG',
    'white on black': 'colour image, need one channel of object ids; this one is white on black: '
    f'{AS_BINARY}',
    'RGBA': 'colour image with alpha, need one channel of object ids; save an indexed PNG',
    'LA': 'grey image with alpha, need one channel of object ids; save it without alpha',
    'PA': 'indexed image with alpha, need one channel of object ids; save it without alpha',
    'I': '16- or 32-bit image, need 8-bit object ids; save it as uint8',
    'I;16': '16-bit image, need 8-bit object ids; save it as uint8',
    'I;16B': '16-bit image, need 8-bit object ids; save it as uint8',
    'F': 'floating-point image, need 8-bit object ids; save it as uint8',
}
# Pillow stretches grey PNGs of 2 and 4 bits to 0..255; the ids are the values before that.
_STRETCH: dict[Any, int] = {'L;2': 85, 'L;4': 17}


def read_labels(path, size=None, *, binary=False):
    """Reads the ids of a mask: its numbers; a palette that gives them another meaning is refused.

    Args:
      path: indexed, grey or 1-bit PNG, as for `pictures.read_file`.
      size: (height, width) the mask must have, or None.
      binary: the data set is in 0/255 form, so that 255 is id 1 and not void. A fact about a whole
        data set (see `is_binary`), never to be guessed for one file.

    Returns:
      u8[H, W], 0 background, 255 void.
    """
    return decode_labels(pictures.read_file(path, 'mask'), path, size, binary=binary)


def decode_labels(data, name, size=None, *, binary=False):
    """As `read_labels`, of the bytes of a file that errors call `name`."""
    labels = _decode(data, name, binary)
    if size is not None:
        _check_size(labels, size, name)
    if binary:
        return _as_binary(labels, name)
    _check_colours(labels, data, name)
    return labels


def read_size(path):
    """Reads (height, width) of a mask from the head of its file."""
    return pictures.read_size(pictures.read_file(path, 'mask'), path, 'mask')


def is_colour(path):
    """Whether a mask is a colour image, seen by the head of its file."""
    head = head_of(pictures.read_file(path, 'mask'))
    return head is not None and head.is_colour


def read_object(path, size):
    """Reads the mask of one object, whatever value or colour of white it has: bool[H, W]."""
    labels = _decode(pictures.read_file(path, 'mask'), path, binary=True)
    _check_size(labels, size, path)
    return labels > 0


def write_labels(path, labels):
    """Writes ids, u8[H, W], as an indexed PNG; the file appears whole or not at all."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f'labels must be u8[H, W], got {labels.dtype}{list(labels.shape)}')
    write_bytes(path, encode_labels(labels), sync=False)


def encode_labels(labels, palette=PALETTE, **options):
    """Bytes of an indexed PNG of u8[H, W]; `palette`: u8[256, 3]; options as of PIL."""
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format='PNG', compress_level=3, **options)
    return buffer.getvalue()


def is_binary(first, others=()):
    """Says whether a data set is in 0/255 form: 255 occurs and no mask holds an id, 1..254.

    A file whose only value may be an id as well as white (1-bit files, which programs that make
    files smaller write for a few masks) means what it means in the rest of the set. One of black
    and white that has them at swapped numbers has no ids: black is the background.

    Args:
      first: masks to look at; reading ends at the first id, so it mostly reads one file. Files, as
        for `pictures.read_file`.
      others: masks to look at, to the first that decides, where none of those does.
    """
    told: set[str | None] = {None}
    for file in first:
        told.add(form := _tell_form(file))
        if form == 'ids':
            return False
    if told == {None}:
        told = {next(filter(None, map(_tell_if_readable, others)), None)}
    return 'binary' in told


def _tell_if_readable(file):
    try:
        return _tell_form(file)
    except InputError:  # of a mask that may never be wanted; reported where it is
        return None


def is_black_and_white(labels, data):
    """Whether a mask, [H, W] as its bytes store it, may show black and white by ids.

    In 1 bit, or by its palette.
    """
    head = head_of(data)
    if head is None or not head.is_indexed:
        return head is not None and head.bits == 1
    return _white_indices(labels.astype(np.uint8), head) is not None


def object_ids(labels):
    """Gives the ids in a mask, ascending, without background and void, as int[N]."""
    return np.flatnonzero(_counts(labels)[1:VOID]) + 1


def _decode(data, name, binary=False):
    """Ids of a mask; with `binary` its white is 255, whatever the form."""
    labels = decode_plain(data)
    if labels is None:
        labels = _decode_any(data, name, binary)
    if binary:
        labels = _as_grey(labels, _head(data, name))
    _check_values(labels, name)
    return labels


def _head(data, name):
    """The head of a mask; InputError where it is no PNG."""
    head = head_of(data)
    if head is not None:
        return head
    form = pictures.form_of(data)
    if form in ('', 'PNG'):
        raise InputError(f'{name}: not an image, or cut short; copy the mask again')
    raise InputError(
        f'{name}: {form} file, masks are PNG (lossy formats mix neighbouring ids); '
        'write the masks as PNG again from their source'
    )


def _decode_any(data, name, binary):
    head = _head(data, name)
    with pictures.opened(data, name, 'mask') as image:
        # Before Pillow halves it: of grey with alpha it keeps the upper 8 bits without a word.
        if head.bits == 16:
            _refuse('I;16', name)
        stretch = _STRETCH.get(image.tile[0].args if image.tile else None, 1)
        if image.mode in ('LA', 'RGBA') and image.getextrema()[-1] == (255, 255):
            image = image.convert(image.mode[:-1])  # alpha that says nothing
        if image.mode == 'RGB':
            return _decode_colours(np.array(image), name, binary)
        if image.mode not in ('P', 'L', '1'):
            _refuse(image.mode, name)
        return np.array(image, dtype=np.uint8) // np.uint8(stretch)


def _decode_colours(image, name, binary):
    """A colour image is a mask only where it is white on black, and read as such."""
    grey = image[..., 0]
    is_white_on_black = np.all((grey == 0) | (grey == 255)) and np.all(image == grey[..., None])
    if not (is_white_on_black and binary):
        _refuse('white on black' if is_white_on_black else 'RGB', name)
    return grey.copy()


def _refuse(mode, name):
    rule = _REFUSED.get(mode, f'image of mode {mode}, need one channel of 8-bit ids')
    raise InputError(f'{name}: {rule}; see docs/data.md#masks')


def _as_grey(labels, head):
    """Values 0 and 255 of a mask that is known to be black and white.

    Programs that make files smaller store black and white in 1, 2 or 4 bits, or as indices of a
    palette with these two colours in any order.
    """
    if not head.is_indexed:
        top = 2**head.bits - 1 if head.bits < 8 else VOID
        return np.where(labels == top, np.uint8(VOID), labels)
    white = _white_indices(labels, head)
    return labels if white is None else np.where(np.isin(labels, white), np.uint8(VOID), 0)


def _white_indices(labels, head):
    """Indices that are white where a mask shows black and white by its palette; else None."""
    used = np.flatnonzero(_counts(labels))
    if used[-1] >= len(head.palette):
        return None
    colours = head.palette[used]
    is_white, is_black = (colours == 255).all(axis=1), (colours == 0).all(axis=1)
    return used[is_white] if np.all(is_white | is_black) else None


def _tell_form(file):
    """What one mask says about the form of its set: 'ids', 'binary', or None."""
    data = pictures.read_file(file, 'mask')
    head = _head(data, file)
    labels = _decode(data, file, binary=head.is_colour)
    values = np.flatnonzero(_counts(labels))
    white = _white_indices(labels, head) if head.is_indexed else None
    if white is not None and np.any(np.isin(values, white) != (values > 0)):
        return 'binary'
    values = values[values > 0]
    may_be_white = white is not None and np.all(values == 1)
    may_be_white |= head.bits < 8 and not head.is_indexed and np.all(values == 2**head.bits - 1)
    if not len(values) or may_be_white:
        return None
    return 'binary' if np.all(values == VOID) else 'ids'


def _check_colours(labels, data, name):
    """Refuses numbers that mean other ids than their colours, as programs that make files smaller
    write them: in a palette that is sorted, or without the colours that are not used.
    """
    head = _head(data, name)
    meant = _ids_of_colours(head.palette.tobytes()) if head.is_indexed else None
    if meant is None:
        return
    used = np.flatnonzero(_counts(labels)[: len(meant)])
    colours, known = head.palette[used], meant[used]
    is_black = (colours == 0).all(axis=1) & (used < VOID)
    is_swapped = is_black.any() and used[0] == 0 and not is_black[0]
    is_grey = np.all(colours == used[:, None])
    is_sorted = np.all(known >= 0) and len(set(known)) == len(used) and np.any(known != used)
    if is_swapped and _white_indices(labels, head) is not None:
        raise InputError(
            f'{name}: black is not 0 and white not 1 in its palette, so that its numbers are no '
            f'ids; {AS_BINARY}, or write the masks again with black as 0'
        )
    if is_swapped or (is_sorted and not is_grey):
        raise InputError(
            f'{name}: its palette is re-sorted, so that its numbers mean other ids than its '
            'colours; write the masks again from their source, with the palette of all of them '
            '(results are read by their colours with --form=rgb)'
        )


@functools.lru_cache(maxsize=64)  # most sets have one palette
def _ids_of_colours(palette):
    """Of each index the id of its colour in PALETTE, -1 for others; None where all agree."""
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    ids = {colour.tobytes(): number for number, colour in reversed(list(enumerate(PALETTE)))}
    meant = np.array([ids.get(colour.tobytes(), -1) for colour in colours], int)
    is_plain = (meant == np.arange(len(meant))) | (meant < 0)
    return None if np.all(is_plain) else meant


def _check_size(labels, size, name):
    if labels.shape != tuple(size):
        is_turned = labels.shape == tuple(size)[::-1]
        remedy = 'turn the mask as its frame is' if is_turned else 'resize it by nearest neighbour'
        raise InputError(
            f'{name}: mask of size {times(labels.shape)}, its frame is {times(size)}; {remedy}'
        )


def _check_values(labels, path):
    if labels.max() < MAX_VALUES:  # the usual case, at a hundredth of the cost of counting
        return
    num_values = np.count_nonzero(_counts(labels))
    if num_values > MAX_VALUES or _is_smoothed(labels):
        raise InputError(
            f'{path}: {num_values} different values, at most {MAX_VALUES} are ids, and no grey at '
            'the edges of objects: an anti-aliased or lossy mask; write ids without smoothing, see '
            'docs/data.md#masks'
        )


def _is_smoothed(labels):
    """Whether half of the high values, which hardly are ids, are in no square of 3x3 pixels."""
    high = np.flatnonzero(_counts(labels)[MAX_VALUES:VOID]) + MAX_VALUES
    if not len(high):
        return False
    square = np.ones((3, 3), np.uint8)
    inner = labels[cv2.erode(labels, square) == cv2.dilate(labels, square)]
    return inner.any() and 2 * np.isin(high, inner).sum() <= len(high)


def _as_binary(labels, path):
    is_id = (labels > 1) & (labels < VOID)
    if np.any(is_id):
        value = int(labels[is_id][0])
        raise InputError(
            f'{path}: value {value} in a data set read as binary (0 and 255); '
            'leave out the binary option: these masks hold ids'
        )
    return (labels > 0).astype(np.uint8)


def _counts(labels):
    # OpenCV's histogram takes a tenth of the time of np.bincount, which widens to int64 first.
    return cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
