"""Data sets prepared by data_prep.prepare: shards of whole videos, read frame by frame.

A shard is an ArrayRecord file of uncompressed records, one for each video. `videos.json` beside the
shards says where in them each JPEG and PNG is, so that a clip reads its own frames and no others:
reading a whole record of 4 MB takes as long as decoding four of its frames. Whole records are read
by data_prep.check, by TFDS, and by whoever likes; nothing of those is needed here.
"""

import dataclasses
import functools
import os
from pathlib import Path

from vos_jax.data import frames as frame_files
from vos_jax.data import masks as mask_files
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import check_form, parse_json, write_json
from vos_jax.storage.names import check_name
from vos_jax.storage.paths import explained, file_system, is_bucket, path_of

INDEX, SUM = 'videos.json', 'videos.crc32'
FORMAT = 1
_REMEDY = 'copy it again, or prepare the data set again'
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


@dataclasses.dataclass(frozen=True)
class PreparedSequence:
    """One video in a shard; reads as layouts.Sequence does.

    Attributes:
      name: its name in the data set.
      shard: the file.
      size: (height, width) of all frames.
      stems: names of the frames, in time order.
      frame_parts: (offset, number of bytes, CRC-32) of each JPEG in the shard, block headers not
        counted; sets of earlier versions have no CRC-32.
      masks: the same of the PNG of each annotated frame, by its stem.
      objects: dict(id, category, first_frame) for each object.
    """

    name: str
    shard: Path
    size: tuple[int, int]
    stems: tuple[str, ...]
    frame_parts: tuple[tuple[int, ...], ...]
    masks: dict[str, tuple[int, ...]]
    objects: tuple[dict, ...]

    @property
    def num_frames(self):
        """Number of frames."""
        return len(self.stems)

    def frame_name(self, index):
        """What errors call frame `index`: shard, video and frame."""
        return self.shard / self.name / f'{self.stems[index]}.jpg'

    def mask_name(self, stem):
        """What errors call the mask of frame `stem`."""
        return self.shard / self.name / f'{stem}.png'

    def read_frame(self, index, *, pad=False, buffer=None):
        """Reads frame `index` as u8[H, W, 3]; options as in frames.read_frame."""
        data = read_part(self.shard, *self.frame_parts[index])
        name = self.frame_name(index)
        return frame_files.decode_frame(data, name, pad=pad, buffer=buffer, upright=False)

    def read_labels(self, stem):
        """Reads the annotation of frame `stem` as u8[H, W]: ids, 0 background, 255 void."""
        data = read_part(self.shard, *self.masks[stem])
        return mask_files.decode_labels(data, self.mask_name(stem), self.size)


def prepared(root, split, stage=None):
    """Lists a split of a prepared data set. That its shards are whole is seen by their sizes.

    Args:
      root: folder that holds videos.json, or one above it where there is only one.
      split: such as 'train'.
      stage: function of the folder, its index and the split that gives the folder of other copies
        of the shards to read.

    Returns:
      PreparedSequences, in the order of their names.
    """
    folder, index = read_index(root)
    if split not in index['splits']:
        there = ', '.join(sorted(index['splits']))
        raise InputError(f"{folder}: no split '{split}' in it; splits there: {there}")
    if stage:
        folder = stage(folder, index, split)
    for shard in index['splits'][split]['shards']:
        check_shard_size(folder / shard['file'], shard['bytes'])
    return [_sequence(folder, video) for video in index['splits'][split]['videos']]


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
        raise InputError(f'{path}: ends before byte {end}: the shard was cut; copy it again')
    part = without_headers(data, start)
    if crc32 not in (None, checksum.of_bytes(part)):
        raise InputError(f'{path}: damaged between bytes {start} and {end}; copy it again')
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
        raise InputError(f'{path}: cannot be read ({error.strerror}); copy it again') from None


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


def _sequence(folder, video):
    return PreparedSequence(
        name=video['name'],
        shard=folder / video['shard'],
        size=(video['height'], video['width']),
        stems=tuple(video['frames']),
        frame_parts=tuple(map(tuple, video['frame_parts'])),
        masks={stem: tuple(part) for stem, part in zip(video['masks'], video['mask_parts'])},
        objects=tuple(video['objects']),
    )
