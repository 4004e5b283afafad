"""Data sets prepared by data_prep.prepare: shards of whole videos, read frame by frame.

A shard is an ArrayRecord file of uncompressed records, one for each video. `videos.json` beside the
shards says where in them each JPEG and PNG is, so that a clip reads its own frames and no others:
reading a whole record of 4 MB takes as long as decoding four of its frames. Whole records are read
by data_prep.check, by TFDS, and by whoever likes; nothing of those is needed here.
"""

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from vos_jax.data import layouts
from vos_jax.errors import InputError
from vos_jax.storage import checksum, disk
from vos_jax.storage.atomic import remove_leftovers, replacing, write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import check_form, parse_json, write_json
from vos_jax.storage.names import check_name
from vos_jax.storage.paths import explained, file_system, is_bucket, local, path_of

INDEX, SUM = 'videos.json', 'videos.crc32'
FORMAT = 1
_REMEDY = 'copy it again, or prepare the data set again'
_REMEDY_OF_SHARD = 'copy it again, or delete it where it is in data.stage'
_VIDEO = {
    'name': str,
    'shard': str,
    'height': int,
    'width': int,
    'frames': [str],
    'masks': [str],
    'frame_parts': [[int]],
    'mask_parts': [[int]],
    'objects': [{'id': int, 'category': str, 'first_frame': str}],
}
_FORM = {
    'format': int,
    'name': str,
    'options': dict,
    'splits': {str: {'shards': [{'file': str, 'bytes': int}], 'videos': [_VIDEO]}},
}

# Riegeli, the format below ArrayRecord, puts a header at the start of each block of a file.
_BLOCK, _HEADER = 65536, 24


class Part(NamedTuple):
    """A picture in a shard, read as a file is.

    Attributes:
      shard: the file.
      video, stem, suffix: what errors call the picture.
      place: offset and number of bytes, block headers not counted, and CRC-32, which sets of
        earlier versions have not.
    """

    shard: Path
    video: str
    stem: str
    suffix: str
    place: tuple[int, ...]

    def __str__(self):
        return f'{self.parent}/{self.stem}{self.suffix}'

    @property
    def parent(self):
        """What errors call the folder."""
        return self.shard / self.video

    def read_bytes(self):
        """The bytes of its JPEG or PNG; InputError where they differ from their checksum."""
        return read_part(self.shard, *self.place)


@dataclasses.dataclass(frozen=True)
class PreparedSequence(layouts.Sequence):
    """One video in a shard.

    Attributes:
      size: (height, width) of all frames.
      objects: dict(id, category, first_frame) for each object.
    """

    size: tuple[int, int] = (0, 0)
    objects: tuple[dict, ...] = ()


def prepared(root, split, stage=''):
    """Lists a split of a prepared data set. That its shards are whole is seen by their sizes.

    Args:
      root: folder that holds videos.json, or one above it where there is only one.
      split: such as 'train'.
      stage: local folder, as /dev/shm/vos, to which the shards are copied first; each data set gets
        a folder of its own in it. '': none.

    Returns:
      PreparedSequences, in the order of their names.
    """
    folder, index = read_index(root)
    if split not in index['splits']:
        there = ', '.join(sorted(index['splits']))
        raise InputError(f"{folder}: no split '{split}' in it; splits there: {there}")
    if stage:
        folder = _stage(folder, index, split, local(stage, 'data.stage'))
    for shard in index['splits'][split]['shards']:
        check_shard_size(folder / shard['file'], shard['bytes'])
    return [sequence(folder, video) for video in index['splits'][split]['videos']]


def _stage(folder, index, split, target):
    """Copies the shards of a split, unless they are there; gives the folder of the copies."""
    # Two data sets of one name differ in their indexes; shards are padded, so have often one size.
    own = target / f'{index["name"]}-{checksum.of_bytes(json.dumps(index).encode()):08x}'
    with disk.explain_disk_errors(target, 'data.stage'):
        own.mkdir(parents=True, exist_ok=True)
        with disk.FolderLock(own, wait=True):  # of the processes of a host one copies
            remove_leftovers(own)
            for shard in index['splits'][split]['shards']:
                videos = [
                    video
                    for video in index['splits'][split]['videos']
                    if video['shard'] == shard['file']
                ]
                _copy(folder / shard['file'], own / shard['file'], shard['bytes'], videos)
    return own


def _copy(source, target, num_bytes, videos):
    """Copies a shard, unless it is there; the copy is compared with its videos' checksums."""
    if target.is_file() and target.stat().st_size == num_bytes:
        return
    check_shard_size(source, num_bytes)
    with replacing(target, sync=False) as temporary:
        if is_bucket(source):
            with explained(source, 'cannot be read'):
                file_system().get(str(source), str(temporary))
        else:
            shutil.copyfile(source, temporary)
        check_shard_size(temporary, num_bytes)
        parts = [part for video in videos for part in video['frame_parts'] + video['mask_parts']]
        try:
            for part in parts:
                read_part(temporary, *part)
        except InputError:
            raise InputError(
                f'{source}: differs from its checksums, here or in the copy to {target.parent}; '
                f'{_REMEDY}'
            ) from None


def is_prepared(root):
    """Says whether a folder holds a prepared data set, itself or below its name and version."""
    root = path_of(root)
    with explained(root, 'cannot be read'):
        return (root / INDEX).exists() or any(root.glob(f'*/{INDEX}'))


def read_index(root):
    """Finds and reads the index: (folder of the shards, content of videos.json).

    Raises:
      InputError: where there is none, it is damaged, or it is not that of its shards.
    """
    with explained(root, 'cannot be read'):
        path = _find_index(path_of(root))
        with reading(path, 'whole', _REMEDY):
            data = path.read_bytes()
        _check_sum(path, data)
    index = parse_json(data, path, {'format': int}, _REMEDY)
    if index['format'] != FORMAT:
        raise InputError(
            f'{path}: format {index["format"]}, this version reads {FORMAT}; {_REMEDY}'
        )
    check_form(index, _FORM, path, _REMEDY)
    for split in index['splits'].values():
        sizes = {shard['file']: shard['bytes'] for shard in split['shards']}
        for name in sizes:
            check_name(name, path, _REMEDY)
        for video in split['videos']:
            _check_video(video, sizes, path)
    return path.parent, index


def write_index(folder, index):
    """Writes the index and, beside it, its checksum."""
    write_json(folder / INDEX, index, indent=None)
    write_bytes(folder / SUM, f'{checksum.of_file(folder / INDEX):08x}\n'.encode())


def _check_sum(path, data):
    """Compares the checksum, which sets of earlier versions do not have."""
    stored = path.with_name(SUM)
    if not stored.exists():
        return
    with reading(stored, 'a checksum', _REMEDY):
        wanted = int(stored.read_text(), 16)
    if checksum.of_bytes(data) != wanted:
        raise InputError(f'{path}: differs from its checksum in {stored.name}; {_REMEDY}')


def _check_video(video, sizes, path):
    """Refuses a video that does not fit its shard."""
    check_name(video['name'], path, _REMEDY)
    end = sizes.get(video['shard'], -1)
    parts = video['frame_parts'] + video['mask_parts']
    is_right = (
        len(video['frames']) == len(video['frame_parts']) > 0
        and len(video['masks']) == len(video['mask_parts'])
        and set(video['masks']) <= set(video['frames'])
        and all(len(part) in (2, 3) for part in parts)
        and all(offset >= 0 < size and offset + size <= end for offset, size, *_ in parts)
        and 0 < min(video['height'], video['width']) <= max(video['height'], video['width']) < 2**16
    )
    if not is_right:
        raise InputError(f'{path}: {video["name"]} does not fit its shard; {_REMEDY}')


def check_shard_size(path, num_bytes):
    """Refuses a shard that is missing or was cut."""
    with explained(path, 'cannot be read'):
        if not path.exists():
            raise InputError(f'{path}: this shard is missing; copy or prepare the data set again')
        found = path.stat().length if is_bucket(path) else path.stat().st_size
    if found != num_bytes:
        raise InputError(
            f'{path}: {found} bytes, must be {num_bytes}: the shard was cut or '
            'changed; copy it again, or delete the data set and prepare it again'
        )


def read_part(path, offset, num_bytes, crc32=None):
    """Reads bytes of a shard by their offset without block headers, and compares their CRC-32."""
    start, end = _place(offset), _place(offset + num_bytes - 1) + 1
    if is_bucket(path):
        with explained(path, 'cannot be read'):
            data = file_system().cat_file(str(path), start, end)
    else:
        data = os.pread(_open(path).fileno(), end - start, start)
    if len(data) != end - start:
        raise InputError(f'{path}: ends before byte {end}: the shard was cut; {_REMEDY_OF_SHARD}')
    part = without_headers(data, start)
    if crc32 not in (None, checksum.of_bytes(part)):
        raise InputError(f'{path}: damaged between bytes {start} and {end}; {_REMEDY_OF_SHARD}')
    return part


def without_headers(data, start=0):
    """Takes the block headers out of a part of a shard that begins at byte `start` of the file."""
    first = -start % _BLOCK
    if first >= len(data):
        return data
    view = memoryview(data)
    bodies = [view[at + _HEADER : at + _BLOCK] for at in range(first, len(data), _BLOCK)]
    return b''.join([view[:first], *bodies])


def _place(offset):
    """Offset in the file of an offset without block headers."""
    return offset + _HEADER * (offset // (_BLOCK - _HEADER) + 1)


@functools.lru_cache(maxsize=256)
def _open(path):
    try:
        return open(path, 'rb', buffering=0)  # closed when nobody has it any more
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); {_REMEDY_OF_SHARD}') from None


def _find_index(root):
    if is_bucket(root):
        places = [root / INDEX, *root.glob(f'*/{INDEX}'), *root.glob(f'*/*/{INDEX}')]
        found = [path for path in places if path.exists()]
    elif not root.is_dir():
        raise InputError(f'{root}: no such folder; give that of a prepared data set')
    else:
        found = [root / INDEX] if (root / INDEX).is_file() else sorted(root.glob(f'**/{INDEX}'))
    found = [path for path in found if not path.parent.name.endswith('.incomplete')]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f'{root}: several data sets in it; give one, such as {found[0].parent}')
    hint = ''
    if not is_bucket(root) and any(root.glob('**/*.incomplete')):
        hint = ' (one there is incomplete: run vos-prepare again)'
    raise InputError(f'{root}: no {INDEX} in it{hint}; prepare with vos-prepare')


def sequence(folder, video):
    """The PreparedSequence of a video of the index."""
    shard, name = folder / video['shard'], video['name']
    frames = (
        Part(shard, name, stem, '.jpg', tuple(place))
        for stem, place in zip(video['frames'], video['frame_parts'])
    )
    masks = {
        stem: Part(shard, name, stem, '.png', tuple(place))
        for stem, place in zip(video['masks'], video['mask_parts'])
    }
    size, objects = (video['height'], video['width']), tuple(video['objects'])
    return PreparedSequence(name, tuple(frames), masks, upright=False, size=size, objects=objects)
