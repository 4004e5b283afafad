"""Lists the annotations of a data set in the DAVIS layout, with or without its frames.

Masks of another program can be scored on a machine that has the annotations only; the files of
the annotations then stand in for the frames. Where the frames are there, the report shows them.
"""

import dataclasses
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
