"""Lists the annotations of a data set, with or without its frames.

Masks of another program can be scored on a machine that has the annotations only; the files of
the annotations then stand in for the frames. Where the frames are there, they say which
annotations belong to a sequence, and the report shows them.
"""

import dataclasses
import itertools
import json
from pathlib import Path

from vos_jax.data import layouts, masks
from vos_jax.data.frames import SUFFIXES
from vos_jax.errors import InputError
from vos_jax.storage.names import natural_key


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


def hint_near(root: Path, content: str) -> str:
    """Says where near a wrong root a folder with `content` is; empty if nowhere."""
    near = [root.parent, root.parent.parent]
    if root.is_dir():
        near += sorted(path for path in root.iterdir() if path.is_dir())
    found = [path for path in near if (path / content).exists()]
    return f'; did you mean {found[0]}?' if found else ''


def _list_video(folder, objects):
    named = {stem for fields in objects.values() for stem in fields['frames']}
    stems = tuple(sorted(named, key=natural_key))
    first_ids = {}
    for object_id, fields in objects.items():
        first = min(fields['frames'], key=natural_key)
        first_ids[first] = (*first_ids.get(first, ()), int(object_id))
    files = {stem: folder / f'{stem}.png' for stem in stems}
    by_stem = {stem: path for stem, path in files.items() if path.is_file()}
    missing = [stem for stem in first_ids if stem not in by_stem]
    if missing:
        raise InputError(
            f'{files[missing[0]]}: this mask is missing; meta.json says that an object appears '
            'there'
        )
    given = tuple(sorted(first_ids, key=natural_key))
    return layouts.Sequence(folder.name, tuple(files.values()), by_stem, given, stems, first_ids)


def _find_folder(annotations, resolution):
    if not annotations.is_dir():
        raise InputError(
            f'{annotations}: no such folder; --data is the folder that holds Annotations and '
            f'ImageSets{hint_near(annotations.parent, "ImageSets")}'
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
    masks_by_stem = _list_files(folder, ('.png',))
    if not masks_by_stem:
        raise InputError(f'{folder}: no annotations (.png) in it; copy this sequence again')
    frames = _list_files(images, SUFFIXES) if images.is_dir() else {}
    if masks_by_stem.keys() <= frames.keys():
        _check_first(folder, masks_by_stem, frames)
    else:  # without the frames, or with some of them: the annotations count
        _check_steps(folder, images, tuple(masks_by_stem))
        frames = masks_by_stem
    stems = tuple(frames)
    return layouts.Sequence(folder.name, tuple(frames.values()), masks_by_stem, stems[:1], stems)


def _list_files(folder, suffixes):
    """{stem: file} in time order."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.name[0] != '.')
    return {p.stem: p for p in sorted(found, key=lambda path: natural_key(path.stem))}


def _check_first(folder, annotations, frames):
    first = next(iter(frames))
    if first not in annotations:
        raise InputError(
            f'{folder / first}.png: this mask is missing; the mask of the first frame says which '
            'objects are scored, copy the data set again'
        )


def _check_steps(folder, images, stems):
    """Without frames a hole in the numbers is all that tells of a missing annotation."""
    if len(stems) == 1:
        raise InputError(
            f'{images}: frames are missing; {folder} holds the first annotation only, so that the '
            'frames say which masks are wanted. Copy them too'
        )
    if not all(stem.isdigit() for stem in stems):
        return
    steps = [int(after) - int(before) for before, after in itertools.pairwise(stems)]
    for stem, step in zip(stems, steps):
        if step > min(steps):
            missing = str(int(stem) + min(steps)).zfill(len(stem))
            raise InputError(
                f'{folder / missing}.png: this annotation is missing (the next after {stem} is '
                f'{step} numbers on); copy the data set again'
            )
