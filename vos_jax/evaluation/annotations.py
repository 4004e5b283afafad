"""Lists the annotations of a data set, with or without its frames.

Masks of another program can be scored on a machine that has the annotations only; the files of
the annotations then stand in for the frames. Where the frames are there, they say which
annotations belong to a sequence, and the report shows them.
"""

import itertools
from pathlib import Path

from vos_jax.data import layouts, listing, lists
from vos_jax.data.frames import SUFFIXES
from vos_jax.data.listing import below, check_link
from vos_jax.errors import InputError


def list_davis(
    root: Path, split: str, year: str, resolution: str | None, *, sparse: bool = False
) -> list[layouts.Sequence]:
    """Lists a split by its annotations; arguments as for `layouts.davis`.

    `sparse`: only some frames are annotated, so that no annotation can be called missing.
    """
    folder = _find_folder(root / 'Annotations', resolution)
    names = lists.read_sequences(root / 'ImageSets' / year / f'{split}.txt')
    images = root / 'JPEGImages' / folder.name
    found = [
        _list_sequence(name, below(folder, name), below(images, name), sparse) for name in names
    ]
    remedy = 'score with --protocol=davis2016, or write 1 instead of 255'
    found = layouts.settle_form(found, year == '2016', remedy)
    return layouts.settle_orientation(found, layouts.folder_fits([(images, folder)]))


def list_youtube(root: Path, split: str) -> list[layouts.Sequence]:
    """Lists a split of YouTube-VOS by its annotations and meta.json; frames are every fifth."""
    videos = lists.read_meta(root / split / 'meta.json')
    folder = root / split / 'Annotations'
    found = [_list_video(name, below(folder, name), videos[name]) for name in sorted(videos)]
    return layouts.settle_form(found, binary=False, remedy='write ids instead of 255')


def hint_near(root: Path, content: str) -> str:
    """Says where near a wrong root a folder with `content` is; empty if nowhere."""
    near = [root.parent, root.parent.parent]
    if root.is_dir():
        near += [root / name for name in listing.folders_in(root)]
    found = [path for path in near if (path / content).exists()]
    return f'; did you mean {found[0]}?' if found else ''


def _list_video(name, folder, objects):
    masks = listing.list_files(folder, ('.png',))
    first_ids, stems = layouts.first_appearances(objects, tuple(masks))
    stems = tuple(listing.in_time_order(stems, folder))
    files = {stem: folder / f'{stem}.png' for stem in stems}
    by_stem = {stem: path for stem, path in masks.items() if stem in files}
    files |= by_stem
    missing = [stem for stem in first_ids if stem not in masks]
    if missing:
        raise InputError(
            f'{files[missing[0]]}: this mask is missing; meta.json says that an object appears '
            'there'
        )
    given = tuple(stem for stem in stems if stem in first_ids)
    return layouts.Sequence(name, tuple(files.values()), by_stem, given, stems, first_ids)


def _find_folder(annotations, resolution):
    check_link(annotations)
    if not annotations.is_dir():
        raise InputError(
            f'{annotations}: no such folder; --data is the folder that holds Annotations and '
            f'ImageSets{hint_near(annotations.parent, "ImageSets")}'
        )
    names = listing.folders_in(annotations)
    wanted = resolution or ('480p' if '480p' in names or len(names) != 1 else names[0])
    check_link(annotations / wanted)
    if wanted not in names:
        raise InputError(
            f'{annotations / wanted}: no such folder, found {", ".join(names[:5]) or "none"}; '
            'name one with --resolution'
        )
    return annotations / wanted


def _list_sequence(name, folder, images, sparse):
    masks = listing.list_files(folder, ('.png',))
    if not masks:
        raise InputError(f'{folder}: no annotations (.png) in it; copy this sequence again')
    frames = listing.list_files(images, SUFFIXES) if listing.is_folder(images) else {}
    if masks.keys() <= frames.keys():
        _check_first(folder, masks, frames)
    else:  # without the frames, or with some of them: the annotations count
        if not sparse:
            _check_steps(folder, images, tuple(masks))
            _check_unmasked(folder, masks, frames)
        frames = masks
    stems = tuple(frames)
    return layouts.Sequence(name, tuple(frames.values()), masks, stems[:1], stems)


def _check_first(folder, annotations, frames):
    first = next(iter(frames))
    if first not in annotations:
        raise InputError(
            f'{folder / first}.png: this mask is missing; the mask of the first frame says which '
            'objects are scored, copy the data set again'
        )


def _check_unmasked(folder, masks, frames):
    """Those of the frames that are there need annotations, but for the last."""
    missing = [stem for stem in tuple(frames)[:-1] if listing.find_stem(stem, masks) is None]
    if missing:
        raise InputError(
            f'{folder / missing[0]}.png: this annotation is missing; copy the data set again, or '
            'score the frames that are annotated with --protocol=davis_sparse'
        )


def _check_steps(folder, images, stems):
    """Without frames a hole in the numbers is all that shows a missing annotation."""
    if len(stems) == 1:
        raise InputError(
            f'{images}: frames are missing; {folder} holds the first annotation only, so that the '
            'frames say which masks are wanted. Copy them too'
        )
    if not all(stem.isdecimal() for stem in stems):
        return
    steps = [int(after) - int(before) for before, after in itertools.pairwise(stems)]
    for stem, step in zip(stems, steps):
        if step > min(steps):
            missing = str(int(stem) + min(steps)).zfill(len(stem))
            raise InputError(
                f'{folder / missing}.png: this annotation is missing (the next after {stem} is '
                f'{step} numbers on); copy the data set again, or score the frames that are '
                'annotated with --protocol=davis_sparse'
            )
    if steps[0] > 1:
        raise InputError(
            f'{images}: frames are missing; {folder} holds annotations at steps of '
            f'{steps[0]}, so that the frames say whether these are all. Copy '
            'them too, or score what is annotated with --protocol=davis_sparse'
        )
