"""Lists the annotations of a data set, with or without its frames.

Masks of another program can be scored on a machine that has the annotations only; the files of
the annotations then stand in for the frames. Where the frames are there, the report shows them.
"""

import dataclasses
import json
from pathlib import Path

from vos_jax.data import layouts, masks
from vos_jax.errors import InputError


def list_davis(root: Path, split: str, year: str, resolution: str | None) -> list[layouts.Sequence]:
    """Lists a split by its annotations; arguments as for `layouts.davis`."""
    folder = _find_folder(root / 'Annotations', resolution)
    names = _read_names(root / 'ImageSets' / year / f'{split}.txt')
    images = root / 'JPEGImages' / folder.name
    found = [_list_sequence(folder / name, images / name) for name in names]
    first_masks = [sequence.masks[sequence.given[0]] for sequence in found]
    if not masks.is_binary(first_masks):
        return found
    if year != '2016':
        raise InputError(
            f'{first_masks[0]}: only 0 and 255 here and in all first masks, need object ids; '
            'score with --protocol=davis2016, or write 1 in place of 255'
        )
    return [dataclasses.replace(sequence, binary=True) for sequence in found]


def list_youtube(root: Path, split: str) -> list[layouts.Sequence]:
    """Lists a split of YouTube-VOS by its annotations and meta.json; frames are every fifth."""
    path = root / split / 'meta.json'
    try:
        videos = json.loads(path.read_text())['videos']
        return [
            _list_video(root / split / 'Annotations' / name, videos[name]['objects'])
            for name in sorted(videos)
        ]
    except FileNotFoundError:
        raise InputError(f'{path}: this file is missing; it comes with the data set') from None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f'{path}: not the meta.json of YouTube-VOS ({error!r})') from None


def _list_video(folder, objects):
    stems = tuple(sorted({stem for fields in objects.values() for stem in fields['frames']}))
    first_ids = {}
    for object_id, fields in objects.items():
        first = min(fields['frames'])
        first_ids[first] = (*first_ids.get(first, ()), int(object_id))
    files = {stem: folder / f'{stem}.png' for stem in stems}
    by_stem = {stem: path for stem, path in files.items() if path.is_file()}
    missing = [stem for stem in first_ids if stem not in by_stem]
    if missing:
        raise InputError(
            f'{files[min(missing)]}: this mask is missing; meta.json says that an object appears '
            'there'
        )
    given = tuple(sorted(first_ids))
    return layouts.Sequence(folder.name, tuple(files.values()), by_stem, given, stems, first_ids)


def _find_folder(annotations, resolution):
    if not annotations.is_dir():
        raise InputError(
            f'{annotations}: no such folder; --data is the folder that holds Annotations'
        )
    names = sorted(path.name for path in annotations.iterdir() if path.is_dir())
    wanted = resolution or ('480p' if '480p' in names or len(names) != 1 else names[0])
    if wanted not in names:
        raise InputError(
            f'{annotations / wanted}: no such folder, found {", ".join(names[:5]) or "none"}; '
            'name one with --resolution'
        )
    return annotations / wanted


def _read_names(path):
    if not path.is_file():
        lists = sorted(str(p.relative_to(path.parents[1])) for p in path.parents[1].glob('*/*.txt'))
        raise InputError(f'{path}: this list is missing; lists there: {", ".join(lists) or "none"}')
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    # The first release of 2016 lists pairs of image and mask; their folder is the sequence.
    names = [Path(row[0]).parent.name if len(row) > 1 else row[0] for row in rows]
    if not names:
        raise InputError(f'{path}: empty list; need one sequence name per line')
    return list(dict.fromkeys(names))


def _list_sequence(folder, images):
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; copy this sequence or take it off the list')
    files = tuple(sorted(path for path in folder.glob('*.png') if path.name[0] != '.'))
    if not files:
        raise InputError(f'{folder}: no annotations (.png) in it; copy this sequence again')
    stems = tuple(path.stem for path in files)
    frames = tuple(images / f'{stem}.jpg' for stem in stems)
    if not all(path.is_file() for path in frames):
        frames = files
    by_stem = dict(zip(stems, files))
    return layouts.Sequence(folder.name, frames, by_stem, given=stems[:1], required=stems)
