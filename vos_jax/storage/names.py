"""Names of files, and numbers in them."""

import decimal
import os
import re
import sys

from vos_jax.errors import InputError

_NUMBER = re.compile(r'[-+]?\d+(\.\d+)?(e[-+]\d{1,3})?')
_LONGEST_NAME = 255  # bytes, on every usual file system


def natural_key(name):
    """A sort key of names with numbers in them: by value, whether or not they have leading zeros.

    A name that is a number as a whole may have a sign and decimals.

    >>> sorted(['f10', 'f9', 'f09'], key=natural_key)
    ['f09', 'f9', 'f10']
    >>> sorted(['1.5', '1.25', '-1', '0'], key=natural_key)
    ['-1', '0', '1.25', '1.5']
    """
    if number := as_number(name):
        return [(-1, ''), (number[0], name), (-1, '')]
    parts = re.split(r'(\d+)', name)  # digits alone: int() takes neither '\u00b2' nor '\u2460'
    return [(int(part), part) if at % 2 else (-1, part) for at, part in enumerate(parts)]


def as_number(name):
    """(value,) of a name that is a number, such as '-00012', '1.25' or '1e-05'; else None.

    >>> as_number('00012'), as_number('frame12')
    ((Decimal('12'),), None)
    """
    return (decimal.Decimal(name),) if _NUMBER.fullmatch(name) else None


def check_name(name, where, remedy='give it a shorter, plain name'):
    """Refuses a name that cannot be that of one file below a folder, as `where` has it.

    Raises:
      InputError: for an empty name, one with a slash or zero byte, `.`, `..`, or of more than 255
        bytes with the ending of a file; `remedy` is its end.
    """
    shown = repr(name) if len(name) <= 40 else f'{name[:40]!r}...'
    if not name or name in ('.', '..') or '/' in name or '\0' in name:
        raise InputError(f'{where}: {shown} is no name of a file; {remedy}')
    size = len(encode_name(name, where, remedy))
    if size > _LONGEST_NAME - len('.jpeg'):
        raise InputError(f'{where}: {shown} has {size} bytes, too long for a file; {remedy}')


def encode_name(name, where, remedy):
    """Bytes of a name of a file.

    Raises:
      InputError: where it is no text, or has letters that names of files cannot have here.
    """
    try:
        name.encode()
        return os.fsencode(name)
    except UnicodeEncodeError:
        encoding, problem = sys.getfilesystemencoding(), 'is no text in UTF-8'
        if encoding != 'utf-8':
            problem = 'is no name of a file here'
            remedy = f'set PYTHONUTF8=1, as names of files are read as {encoding}'
        raise InputError(f'{where}: {name[:80]!r} {problem}; {remedy}') from None


def times(size):
    """Height and width as people say it, width x height.

    >>> times((480, 854))
    '854x480'
    """
    return f'{size[1]}x{size[0]}'


def parse_size(text):
    """(height, width) of --size=WIDTHxHEIGHT.

    Raises:
      InputError: for another form, or a side below 32 or above 16,384.

    >>> parse_size('854x480')
    (480, 854)
    """
    match = re.fullmatch(r'([0-9]{1,5})x([0-9]{1,5})', text)
    width, height = map(int, match.groups()) if match else (0, 0)
    if not 32 <= min(width, height) <= max(width, height) <= 16384:
        raise InputError(f'--size={text[:40]}: needed: WIDTHxHEIGHT, each 32 to 16384, as 854x480')
    return height, width
