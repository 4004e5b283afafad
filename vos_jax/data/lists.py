"""Text that comes with data sets: lists of sequences, meta.json of YouTube-VOS.

Both are read from bytes as well, since they may be in an archive.
"""

import codecs
import dataclasses
import json
import re
import unicodedata
from pathlib import Path, PurePosixPath

from vos_jax.data.listing import check_link
from vos_jax.errors import InputError
from vos_jax.storage.damage import reading
from vos_jax.storage.names import as_number, encode_name
from vos_jax.storage.palette import VOID

_MARKS = {
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF32_LE: 'utf-32',  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}
_PAIR = re.compile(r'(\S.*\.(?:jpe?g|png|webp|bmp))\s+(\S.*\.png)(?:\s+\d+)*', re.IGNORECASE)
_PARTS = ('JPEGImages', 'Annotations')  # folders of frames and of masks
_LONGEST_NAME = 255  # bytes, on every usual file system


@dataclasses.dataclass(frozen=True)
class Listed:
    """What meta.json says of one object."""

    frames: tuple  # names as they stand there, text or numbers
    category: str = ''


def decode_text(data, name):
    """Decodes a text file: UTF-8, or UTF-16 and UTF-32 that say so by their first bytes.

    Raises:
      InputError: for another encoding, since names could only be guessed.
    """
    encoding = next((e for mark, e in _MARKS.items() if data.startswith(mark)), 'utf-8')
    if encoding == 'utf-8' and b'\0' in data:
        raise InputError(
            f'{name}: no UTF-8 text, perhaps UTF-16 without a byte order mark; save it as UTF-8'
        )
    try:
        return data.decode(encoding).removeprefix('\ufeff')
    except UnicodeError as error:
        line = data[: getattr(error, 'start', 0)].count(b'\n') + 1
        likely = ', perhaps Latin-1' if encoding == 'utf-8' else ''
        raise InputError(
            f'{name}: no {encoding.removesuffix("-sig").upper()} text in line {line}{likely}; save '
            'it as UTF-8'
        ) from None


def read_lines(path):
    """The lines of a text file that are not empty."""
    return _parse_lines(read_bytes(path), path)


def _parse_lines(data, name):
    lines = re.split('\r\n|\r|\n', decode_text(data, name))
    found = [line.strip().strip('\ufeff\u200b\x1a') for line in lines]
    found = [line for line in found if line]
    if not found:
        raise InputError(f'{name}: empty list; one sequence name per line is needed')
    return found


def read_sequences(path):
    """Names of the sequences in a list of DAVIS; see `parse_sequences`."""
    check_link(path)
    if not Path(path).is_file():
        lists = sorted(p.relative_to(path.parents[1]) for p in path.parents[1].glob('*/*.txt'))
        there = ', '.join(map(str, lists)) or 'none'
        raise InputError(f'{path}: this list is missing; lists there: {there}')
    return parse_sequences(read_bytes(path), path)


def parse_sequences(data, name):
    """Names of the sequences in a list, in its order; `name`: what errors call it.

    Each line has a name, which may have spaces and folders; or a pair of image and mask (release of
    2016), whose folder is the sequence.
    """
    lines = _parse_lines(data, name)
    pairs = [_PAIR.fullmatch(line.replace('\\', '/')) for line in lines]
    if all(pairs):
        return _sequences_of([pair.groups() for pair in pairs if pair], name)
    found = {}
    for number, line in enumerate(lines, start=1):
        sequence = check_sequence(line, name)
        first = found.setdefault(unicodedata.normalize('NFC', sequence), (number, sequence))
        if first != (number, sequence):
            raise InputError(
                f"{name}: '{sequence}' is listed twice, as names {first[0]} and {number}; "
                'remove one'
            )
    return [sequence for _, sequence in found.values()]


def check_sequence(text, name):
    """The name of a sequence in one form, as 'a' or 'x/a'; refuses what leads out of its folder."""
    path = PurePosixPath(text.replace('\\', '/'))
    remedy = 'name the folder of a sequence below that of the frames'
    if path.is_absolute() or '..' in path.parts or not path.parts or '\0' in text:
        raise InputError(f'{name}: {text[:80]!r} is no name of a sequence; {remedy}')
    longest = max(len(encode_name(part, name, remedy)) for part in path.parts)
    if longest > _LONGEST_NAME:
        raise InputError(f'{name}: a name of {longest} bytes, too long for a folder; {remedy}')
    return str(path)


def read_meta(path):
    """What the meta.json of YouTube-VOS says; see `parse_meta`."""
    return parse_meta(read_bytes(path, 'it comes with the data set'), path)


def parse_meta(data, name):
    """Objects by their ids, rising, of each video of a meta.json: video -> id -> Listed.

    Ids and frames may be text or whole numbers; objects may be a list in which each has an `id`.
    `name`: what errors call it.
    """
    try:
        videos = json.loads(decode_text(data, name), object_pairs_hook=_unique_of(name))['videos']
        found, composed = {}, set()
        for key, video in videos.items():
            sequence = check_sequence(key, name)
            composed.add(unicodedata.normalize('NFC', sequence))
            if len(composed) == len(found):
                raise InputError(f"{name}: video '{sequence}' is there twice; remove one")
            found[sequence] = _read_objects(video['objects'], name, sequence)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f'{name}: not the form videos > name > objects > id > frames ({error!r}); '
            'download it again'
        ) from None
    return found


def match_frames(listed, stems):
    """Names of the frames of meta.json, text or numbers, as the files (`stems`) have them.

    That of the file where there is one of that name or number; else as listed.
    """
    stems = list(stems)
    known = set(stems)
    numbers = {as_number(stem): stem for stem in stems if as_number(stem)}
    width = len(stems[0]) if stems and stems[0].isdigit() else 5
    return [_match(frame, known, numbers, width) for frame in listed]


def _match(frame, known, numbers, width):
    text = str(frame)
    if text in known:
        return text
    stem = PurePosixPath(text).stem if isinstance(frame, str) else text
    if stem in known:
        return stem
    number = as_number(stem)
    if number in numbers:
        return numbers[number]
    return text if isinstance(frame, str) else text.zfill(width)


def read_bytes(path, missing='need one name per line'):
    """The content of a file; InputError where it is missing or cannot be read."""
    with reading(path, 'a text file', missing):
        return Path(path).read_bytes()


def _sequences_of(pairs, name):
    """The folders of images and masks: 'x/a' of '/JPEGImages/480p/x/a/00000.jpg'."""
    found, tops = {}, {}
    for pair in pairs:
        (top, image), (_, mask) = (_split(path, part) for path, part in zip(pair, _PARTS))
        if image != mask:
            raise InputError(
                f'{name}: {pair[0]} beside {pair[1]}, in folders of other names; a mask has the '
                'name and folder of its frame'
            )
        tops.setdefault(top, pair[0])
        if len(tops) > 1:
            one, other = tops.values()
            raise InputError(
                f'{name}: {one} and {other} are below two folders of frames; list those of one'
            )
        found[check_sequence(PurePosixPath(image).parent.as_posix(), name)] = None
    return list(found)


def _split(path, part):
    """(folder of frames or masks, name in it without suffix)."""
    parts = PurePosixPath(path.lstrip('/')).with_suffix('').parts
    start = parts.index(part) + 1 if part in parts[:-2] else 0
    if start and len(parts) > start + 2:  # and a resolution
        start += 1
    return parts[:start], '/'.join(parts[start:])


def _unique_of(name):
    def check(pairs):
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{name}: '{twice}' is there twice in one place; remove one")
        return values

    return check


def _read_objects(objects, name, video):
    if isinstance(objects, list):
        pairs = [(one['id'], one) for one in objects]
    else:
        pairs = list(objects.items())
    found = {}
    for key, fields in pairs:
        object_id = _read_id(key, name, video)
        if object_id in found:
            raise InputError(f'{name}: video {video} has object {object_id} twice; remove one')
        frames = fields['frames']
        if not isinstance(frames, list) or not all(map(_is_name, frames)):
            raise ValueError(f'frames of object {key} of {video}: {str(frames)[:60]}')
        found[object_id] = Listed(tuple(frames), str(fields.get('category') or ''))
    if not found or not all(one.frames for one in found.values()):
        raise InputError(f'{name}: video {video} has no object or an object without frames')
    return dict(sorted(found.items()))


def _is_name(frame):
    is_number = isinstance(frame, int) and not isinstance(frame, bool) and 0 <= frame < 10**9
    return is_number or (isinstance(frame, str) and bool(frame) and '/' not in frame)


def _read_id(key, name, video):
    is_id = re.fullmatch('[0-9]{1,9}', key) if isinstance(key, str) else type(key) is int
    if not is_id or not 0 < int(key) < VOID:
        raise InputError(
            f'{name}: video {video} has an object with id {str(key)[:40]!r}; ids are 1 to '
            f'{VOID - 1}'
        )
    return int(key)
