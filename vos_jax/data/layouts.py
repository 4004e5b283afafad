"""Data sets on disk: finds the frames and masks of each sequence and checks what can be checked.

Nothing is decoded here but the head of a file, so listing takes milliseconds per sequence.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vos_jax.data import frames as frame_files
from vos_jax.data import listing, lists
from vos_jax.data import masks as mask_files
from vos_jax.data.frames import Fit
from vos_jax.data.listing import below
from vos_jax.errors import InputError
from vos_jax.storage.names import natural_key
from vos_jax.storage.palette import VOID


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One video.

    Attributes:
      name: its name in the data set.
      frames: image files in time order: paths, or members of archives, or parts of shards, with
        `read_bytes`, `stem`, `parent` and, as text, what errors call them.
      masks: mask file for each annotated frame, by the frame's stem ('00005').
      given: stems whose masks a model is shown, in time order.
      required: stems a model must write.
      first_ids: for each given stem the ids that appear there for the first time; None where the
        one given mask shows all of them (DAVIS).
      binary: masks are in 0/255 form.
      upright: frames are turned as their EXIF says; False where the masks fit them as stored.
    """

    name: str
    frames: tuple[Any, ...]
    masks: Mapping[str, Any]
    given: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    first_ids: Mapping[str, tuple[int, ...]] | None = None
    binary: bool = False
    upright: bool = True

    @functools.cached_property
    def stems(self):
        """Names of the frames without folder and suffix, in time order."""
        return tuple(path.stem for path in self.frames)

    @functools.cached_property
    def size(self):
        """(height, width) of the first frame, and of the masks."""
        return frame_files.read_size(self.frames[0], upright=self.upright)

    @property
    def num_frames(self):
        return len(self.frames)

    def read_frame(self, index, *, pad=False, buffer=None):
        """Reads frame `index` as u8[H, W, 3]; options as in frames.read_frame."""
        frame = frame_files.read_frame(
            self.frames[index], pad=pad, buffer=buffer, size=self.size, upright=self.upright
        )
        frame_files.check_same_size(frame, self.size, self.frames[index])
        return frame

    def read_labels(self, stem):
        """Reads the annotation of frame `stem` as u8[H, W]: ids, 0 background, 255 void."""
        return mask_files.read_labels(self.masks[stem], self.size, binary=self.binary)

    def read_given(self, stem):
        """Reads what a model is shown at `stem`: u8[H, W], the new ids, 0 for all else."""
        labels = self.read_labels(stem)
        shown = mask_files.object_ids(labels)
        if self.first_ids is not None:
            shown = np.intersect1d(shown, self.first_ids[stem])
        if not len(shown):
            raise InputError(f'{self.masks[stem]}: {_why_empty(labels)}')
        return np.where(np.isin(labels, shown), labels, np.uint8(0))


def davis(root, split, year='2017', resolution=None, *, binary=False, on_broken=None):
    """Lists a split of a data set in the DAVIS layout (docs/data.md, "Trees").

    Args:
      root: folder that holds JPEGImages, Annotations and ImageSets.
      split: name of the list, such as 'train' or 'val'.
      year: '2016' or '2017': which list. Lists of image and mask pairs (the first release of 2016)
        are read too.
      resolution: folder below JPEGImages; None takes '480p', or the only one.
      binary: accepts a data set whose masks hold only 0 and 255, as the first release of 2016. The
        lists of 2016 accept it always, because their task has one object.
      on_broken: called with the error of each sequence that cannot be used, which is then left
        out; None: the first error is raised.

    Returns:
      Sequences in the order of the list. The first frame of each has a mask; others may have none.
    """
    root = _check_root(root)
    images = root / 'JPEGImages'
    resolution = resolution or choose_resolution(listing.folders_in(images), images)
    names = lists.read_sequences(root / 'ImageSets' / str(year) / f'{split}.txt')
    images, annotations = images / resolution, root / 'Annotations' / resolution
    if not annotations.is_dir():
        hint = listing.hint_nearest(annotations)
        raise InputError(f'{annotations}: folder is missing{hint}; the masks belong there')
    is_one_object = binary or str(year) == '2016'
    found = _make_each(
        lambda name: _davis_sequence(name, below(images, name), below(annotations, name)),
        names,
        on_broken,
    )
    if on_broken is not None:
        found = _make_each(_with_readable_mask, found, on_broken)
    others = folder_fits([(images, annotations)])
    return settle_orientation(settle_form(found, is_one_object), others, on_broken)


def youtube_vos(root, split, *, all_frames=False, on_broken=None):
    """Lists a split of YouTube-VOS (docs/data.md, "Trees").

    Args:
      root: folder that holds train, valid and test.
      split: 'train', 'valid' or 'test'.
      all_frames: takes the images of `<split>_all_frames` (30 fps) instead of every fifth.
      on_broken: as for `davis`.

    Returns:
      Sequences in the order of their names; `required` are the frames named in meta.json.
    """
    root = Path(root)
    folder = root / split
    videos = lists.read_meta(folder / 'meta.json')
    images = (root / f'{split}_all_frames' if all_frames else folder) / 'JPEGImages'
    masks = folder / 'Annotations'
    found = _make_each(
        lambda name: _youtube_sequence(name, below(images, name), below(masks, name), videos[name]),
        sorted(videos),
        on_broken,
    )
    found = settle_form(found, binary=False, remedy='write ids instead of 255')
    splits = [root / name for name in listing.folders_in(root)]
    others = folder_fits([(one / 'JPEGImages', one / 'Annotations') for one in splits])
    return settle_orientation(found, others, on_broken)


def still_images(root, *, binary=False):
    """Lists photographs with masks, each as a sequence of one frame.

    Args:
      root: folder that holds images (JPEG or PNG) and masks (PNG of the same names).
      binary: the masks hold only 0 and 255, as in most sets of salient objects; 255 is id 1.
    """
    images, annotations = Path(root) / 'images', Path(root) / 'masks'
    if listing.is_folder(images) and (inner := listing.folders_in(images)):
        raise InputError(
            f'{images / inner[0]}: a folder among the images, which would be left out; move its '
            'files up, or take `vos-prepare static_images`'
        )
    frames, masks = _list_both(images, annotations, timed=False)
    for stem in frames:
        if stem not in masks:
            raise InputError(f'{annotations / stem}.png: this mask is missing; add it')
    found = [
        Sequence(stem, (path,), {stem: masks[stem]}, (stem,), (stem,), binary=binary)
        for stem, path in frames.items()
    ]
    # A set in 0/255 form may have ten thousand masks: where it is named as such, none is read here.
    return settle_orientation(found if binary else settle_form(found, binary=False))


def require_masks(sequences, on_broken=None):
    """The sequences that have a mask for every frame, which training needs; see `davis`."""
    return _make_each(_with_all_masks, sequences, on_broken)


def _with_all_masks(sequence):
    missing = [stem for stem in sequence.stems if stem not in sequence.masks]
    if missing:
        folder = next(iter(sequence.masks.values())).parent
        raise InputError(
            f'{folder / missing[0]}.png: this mask is missing ({len(missing)} of '
            f'{sequence.num_frames} in {sequence.name}); training needs one for each frame'
        )
    return sequence


def _with_readable_mask(sequence):
    mask_files.read_labels(sequence.masks[sequence.given[0]])
    return sequence


def _make_each(make, items, on_broken):
    """`make(item)` of each item; those that fail are reported and left out."""
    made = []
    for item in items:
        try:
            made.append(make(item))
        except InputError as error:
            if on_broken is None:
                raise
            on_broken(error)
    return made


def settle_form(found, binary, remedy='ask for binary masks, or write 1 instead of 255'):
    """Says of a whole set whether its masks are in 0/255 form, which must be asked for.

    `binary`: it was; `remedy`: what to do where it was not.
    """
    first_masks = [sequence.masks[stem] for sequence in found for stem in sequence.given[:1]]
    others = (path for sequence in found for path in sequence.masks.values())
    if not mask_files.is_binary(first_masks, others):
        return found
    if not binary:
        raise InputError(
            f'{first_masks[0]}: only 0 and 255 here and in all first masks, need object ids; '
            f'{remedy}'
        )
    return [dataclasses.replace(sequence, binary=True) for sequence in found]


def settle_orientation(found, others=(), on_broken=None):
    """Says of each sequence whether its masks lie over frames as stored, not as EXIF turns them.

    Sizes tell. Where a turned frame has the size of the stored one, it lies as in the rest of the
    set, whether listed or not.

    Args:
      found: Sequences, or others that have `upright`.
      others: `fit_of` of the rest of the set; read only where it is needed.
      on_broken: as for `davis`, of those of which nothing can tell.
    """
    fits = [fit_of(sequence) for sequence in found]
    known = set(fits)
    if Fit.EITHER in known:
        known.update(others)
    is_mixed = {Fit.UPRIGHT, Fit.STORED} <= known
    is_stored = Fit.STORED in known

    def settle(pair):
        sequence, fit = pair
        if fit is Fit.EITHER and is_mixed:
            raise InputError(
                f'{next(iter(sequence.masks.values()))}: EXIF turns the frames of '
                f'{sequence.name}, and whether this mask is turned as well neither its size nor '
                'the rest of the set tells, which has both; save these frames without EXIF, turned '
                'as their masks are'
            )
        is_upright = not is_stored if fit is Fit.EITHER else fit is not Fit.STORED
        return sequence if is_upright else dataclasses.replace(sequence, upright=False)

    return _make_each(settle, zip(found, fits), on_broken)


def folder_fits(folders):
    """Yields frames.Fit of each sequence below pairs of folders of images and masks."""
    for images, annotations in folders:
        for name in listing.folders_below(images) if listing.is_folder(images) else ():
            with contextlib.suppress(InputError):
                frames = listing.list_files(images / name, frame_files.SUFFIXES)
                masks = listing.list_files(below(annotations, name), ('.png',))
                yield fit_of(Sequence(name, tuple(frames.values()), masks))


def fit_of(sequence):
    """frames.Fit of a Sequence, or of a video whose frames are a dict, by its first files."""
    frames, masks = sequence.frames, sequence.masks
    frames = frames.values() if isinstance(frames, Mapping) else frames
    path, mask = next(iter(frames), None), next(iter(masks.values()), None)
    with contextlib.suppress(InputError):  # of a broken file, told when it is read
        if path and mask:
            return frame_files.fit_of_mask(path, mask)
    return Fit.PLAIN


def _davis_sequence(name, images, annotations):
    frames, masks = _list_both(images, annotations)
    stems = tuple(frames)
    if stems[0] not in masks:
        raise InputError(
            f'{annotations / stems[0]}.png: this mask is missing; '
            'the mask of the first frame says which objects to follow'
        )
    return Sequence(name, tuple(frames.values()), masks, given=stems[:1], required=stems)


def _youtube_sequence(name, images, annotations, objects):
    frames, masks = _list_both(images, annotations)
    first_ids, wanted = first_appearances(objects, tuple(frames))
    for stem in wanted:
        if stem not in frames:
            raise InputError(f'{images / stem}.jpg: this frame is missing; meta.json names it')
    for stem in first_ids:
        if stem not in masks:
            raise InputError(
                f'{annotations / stem}.png: this mask is missing; meta.json says that an object '
                'appears there'
            )
    paths = tuple(frames.values())
    return Sequence(name, paths, masks, tuple(first_ids), wanted, first_ids)


def first_appearances(objects, stems):
    """Where the objects of a video appear, by the Listed objects of meta.json.

    Returns:
      (first_ids, named): for each frame in which an object is new its ids; names of all frames of
      objects. Both in the order of `stems`; frames that are not among them come last.
    """
    order = {stem: place for place, stem in enumerate(stems)}

    def place(stem):
        return order.get(stem, len(order)), natural_key(stem)

    first_ids, named = {}, set()
    for object_id, listed in objects.items():
        own = lists.match_frames(listed.frames, stems)
        first = min(own, key=place)
        first_ids[first] = (*first_ids.get(first, ()), object_id)
        named.update(own)
    ordered = sorted(first_ids, key=place)
    return {stem: first_ids[stem] for stem in ordered}, tuple(sorted(named, key=place))


def _check_root(root):
    root = Path(root)
    if not root.is_dir():
        raise InputError(f'{root}: no such folder; give the folder that holds JPEGImages')
    missing = [
        name for name in ('JPEGImages', 'Annotations', 'ImageSets') if not (root / name).is_dir()
    ]
    if not missing:
        return root
    listing.check_link(root / missing[0])
    nearby = [root.parent, root.parent.parent, *(root / n for n in listing.folders_in(root))]
    better = [path for path in nearby if (path / 'JPEGImages').is_dir()]
    hint = f'did you mean {better[0]}?' if better else 'see docs/data.md for the layout'
    raise InputError(f'{root}: no folder {missing[0]} in it; {hint}')


def choose_resolution(names, images):
    """Of the folders of frames in `images` the one to take where none is named: 480p or the only.

    Raises:
      InputError: where there are others.
    """
    if '480p' in names:
        return '480p'
    if len(names) == 1:
        return names[0]
    raise InputError(
        f'{images} has {", ".join(names) or "no folders"}; needed: 480p or one folder of frames, '
        'or name one as the resolution (--resolution)'
    )


def _list_both(images, annotations, timed=True):
    """Frames and masks by their stems; refuses masks without a frame of their name."""
    frames = _list_files(images, frame_files.SUFFIXES, timed)
    masks = _list_files(annotations, ('.png',), timed)
    stray = sorted(masks.keys() - frames.keys())
    if stray:
        raise InputError(f'{masks[stray[0]]}: mask without a frame in {images}; names must agree')
    return frames, masks


def _list_files(folder, suffixes, timed):
    files = listing.list_files(folder, suffixes, timed=timed)
    if not files:
        others = sorted(path.name for path in folder.iterdir() if not listing.is_hidden(path.name))
        raise InputError(
            f'{folder}: no {" or ".join(suffixes)} files in it (found '
            f'{", ".join(others[:2]) or "nothing"}); copy this sequence again'
        )
    return files


def _why_empty(labels):
    if np.any(labels == VOID):
        return (
            'no object in it, only 0 and 255 (void); if 255 means the object here, '
            'the whole data set must be in 0/255 form'
        )
    return (
        'no object in it, but it is the mask that says which objects to follow; draw one, or take '
        'the sequence off the list'
    )
