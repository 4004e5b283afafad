"""Lists the files of data sets as people have them: frames and masks of a folder, in time order.

What other programs leave behind is not seen: hidden files and folders, thumbnails, resource forks.
Links are followed. What could be meant in two ways is refused, with both names.
"""

import decimal
import difflib
import itertools
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from vos_jax.errors import InputError
from vos_jax.storage.names import as_number, encode_name, natural_key

_LEFT_BEHIND = ('__MACOSX', '__pycache__', '@eaDir', 'lost+found', 'Thumbs.db', 'desktop.ini')
# Numbers as decimals with a sign: a minus behind a letter or digit joins two parts of a name.
_DECIMAL = re.compile(r'((?:(?<![^\W_])-)?\d+(?:\.\d+)?(?:e[-+]\d{1,3})?)')
_HEXADECIMAL = re.compile('[0-9a-fA-F]+')
_DIGITS = re.compile(r'(\d+)')


def is_hidden(name):
    """Whether a file or folder of this name belongs to no data set."""
    return name.startswith(('.', '$')) or name in _LEFT_BEHIND


def list_files(folder, suffixes, *, timed=True) -> dict[str, Path]:
    """Files of a folder by their stems, in time order: dict of stem -> Path.

    Args:
      suffixes: endings of the files to list, in lower case; any case is found.
      timed: False for photographs, whose order means nothing.
    """
    folder = Path(folder)
    if not is_folder(folder):
        hint = hint_nearest(folder)
        raise InputError(f'{folder}: folder is missing{hint}; copy it or take it off the list')
    names = {name: folder / name for name in os.listdir(folder)}
    found = by_stem(names, suffixes, folder, timed=timed)
    for path in found.values():
        if not path.is_file():
            check_link(path)
    return {stem: path for stem, path in found.items() if path.is_file()}


def by_stem(files, suffixes, where, *, timed=True):
    """As `list_files`, of a dict of name -> anything; `where` is the folder, for errors."""
    names = {}
    for name in sorted(files):
        if is_hidden(name) or not name.lower().endswith(suffixes):
            continue
        encode_name(name, where, 'rename it')
        first = names.setdefault(PurePosixPath(name).stem, name)
        if first != name:
            raise InputError(
                f'{where}: {first} and {name} differ only in their suffix; remove one of them'
            )
    stems = in_time_order(names, where) if timed else sorted(names, key=natural_key)
    return {stem: files[names[stem]] for stem in stems}


def in_time_order(stems, where) -> list[str]:
    """Sorts names of frames by the numbers in them.

    Names that are numbers as a whole are sorted by value. In others numbers are whole ones, unless
    read as decimals, or with a sign, they would come in another order: that is refused.
    """
    stems = list(stems)
    if all(as_number(stem) for stem in stems):
        return _sorted_by(stems, as_number, where)
    ordered = _sorted_by(stems, lambda stem: _parts(stem, _DIGITS, int), where)
    keys: dict[str, Callable] = {
        'decimals or negative numbers': lambda stem: _parts(stem, _DECIMAL, decimal.Decimal)
    }
    if all(_HEXADECIMAL.fullmatch(stem) for stem in stems):
        keys['hexadecimal numbers'] = lambda stem: int(stem, 16)
    for kind, key in keys.items():
        for one, other in zip(ordered, sorted(stems, key=key)):
            if one != other:
                raise InputError(
                    f'{where}: {one} and {other} come in another order as {kind} than as whole '
                    'ones; rename all frames to numbers, as 00000, 00001'
                )
    return ordered


def find_stem(stem, files):
    """The name among `files` (a dict by stem) that a frame has there: its own, or its number.

    >>> find_stem('00010', {'9': 0, '10': 1})
    '10'
    >>> find_stem('00010', {'9': 0}) is None
    True
    """
    if stem in files:
        return stem
    number = as_number(stem)
    return next((name for name in files if number and as_number(name) == number), None)


def folders_in(folder):
    """Names of the folders in a folder, sorted; links to folders are folders."""
    return sorted(p.name for p in Path(folder).iterdir() if not is_hidden(p.name) and is_folder(p))


def folders_below(folder, levels=4):
    """Yields the names of the folders below a folder, as 'a' or 'x/a', down to some levels."""
    for name in folders_in(folder):
        yield name
        if levels > 1:
            yield from (f'{name}/{one}' for one in folders_below(Path(folder) / name, levels - 1))


def is_folder(path):
    """Whether there is a folder; a name that no file can have is none."""
    try:
        return Path(path).is_dir()
    except PermissionError:
        raise
    except OSError:  # a name that is too long
        return False


def below(folder, name):
    """The folder of a sequence; also where its letters are composed in another way than listed.

    A list made on one system and folders copied from another may differ in that (an accent as a
    letter of its own), though nobody can see it.
    """
    folder = Path(folder)
    spellings = (name, *(unicodedata.normalize(form, name) for form in ('NFC', 'NFD')))
    return next((folder / one for one in spellings if is_folder(folder / one)), folder / name)


def check_link(path):
    """Refuses a link that leads nowhere, which the path or a folder above it may be."""
    for one in (Path(path), *Path(path).parents):
        if os.path.islink(one) and not os.path.exists(one):
            raise InputError(
                f'{one}: link to {os.readlink(one)}, which is missing; copy the file itself'
            )


def hint_nearest(path):
    """' (did you mean X?)' of a folder that is not there, or ''; a link to nothing is refused."""
    path = Path(path)
    check_link(path)
    above = next((one for one in path.parents if is_folder(one)), Path('/'))
    name = path.relative_to(above).parts[0] if above in path.parents else path.name
    return hint_among((name, path.name), folders_in(above))


def hint_among(tried, names):
    """' (did you mean X?)' of the name that is nearest to one of those tried, or ''."""
    close = [found for name in tried for found in difflib.get_close_matches(name, names, n=1)]
    return f' (did you mean {close[0]}?)' if close else ''


def _sorted_by(stems, key, where):
    keys: dict[str, Callable] = {stem: key(stem) for stem in stems}
    ordered = sorted(stems, key=lambda stem: (keys[stem], stem))
    for one, other in itertools.pairwise(ordered):
        if keys[one] == keys[other]:
            raise InputError(
                f'{where}: {one} and {other} have the same number; remove one of them, or rename it'
            )
    return ordered


def _parts(stem, pattern, value):
    """Text and numbers of a name in turn; all text compares with text, numbers with numbers."""
    return [value(part) if at % 2 else part for at, part in enumerate(pattern.split(stem))]
