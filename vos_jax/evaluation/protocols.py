"""What each protocol asks: frames to segment, masks given, frames and objects scored.

The rules are those of the DAVIS and YouTube-VOS benchmarks; docs/evaluation.md lists them.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vos_jax.data import layouts, listing, lists, masks
from vos_jax.errors import InputError
from vos_jax.evaluation import annotations
from vos_jax.storage.palette import VOID

SPARSE = 'davis_sparse'
DAVIS = ('davis2016', 'davis2017', SPARSE)
YOUTUBE = ('youtube_vos2018', 'youtube_vos2019')
LOCAL = 'youtube_vos_local'
NAMES = (*DAVIS, *YOUTUBE, LOCAL)


@dataclasses.dataclass(frozen=True)
class Task:
    """What a protocol asks of one sequence.

    Attributes:
      sequence: its frames, the masks given to the model and the frames it must write.
      ids: the objects, in the order of the rows of the scores.
      scored: for each scored frame (by stem, in time order) the ids scored there; empty where the
        annotations are not public.
      merged: all ids are one object, id 1 (DAVIS-2016).
      groups: 'seen' or 'unseen' for each id, where the protocol distinguishes them.
    """

    sequence: layouts.Sequence
    ids: tuple[int, ...]
    scored: Mapping[str, tuple[int, ...]]
    merged: bool = False
    groups: Mapping[int, str] | None = None

    @property
    def name(self) -> str:
        return self.sequence.name

    def read_truth(self, stem: str) -> np.ndarray:
        """Reads an annotation as u8[H, W]: void is background, as the official task has it."""
        labels = self.sequence.read_labels(stem)
        is_void = labels == VOID
        if is_void.any():
            if len(self.ids) == 1 and np.all((labels == 0) | is_void):
                raise InputError(
                    f'{self.sequence.masks[stem]}: only 0 and 255 (void) here, but ids in other '
                    'masks of this set; write 1 instead of 255'
                )
            labels[is_void] = 0
        return _merge(labels, self.merged)

    def check_truth(self, stem: str) -> None:
        """Refuses an annotation of another size than the frames; reads only its head."""
        path, size = self.sequence.masks[stem], self.sequence.size
        found = masks.read_size(path)
        if found != size:
            raise InputError(
                f'{path}: annotation of size {found[1]}x{found[0]}, its frame is '
                f'{size[1]}x{size[0]}; copy the data set again'
            )

    def absent(self, stem: str) -> frozenset[int]:
        """Ids of which nothing need be predicted at `stem`: their first mask comes there or later.

        Of ids that are no object nothing is known, so that none is wanted either.
        """
        sequence, present = self.sequence, set(self.ids)
        if sequence.first_ids is not None:
            order = sequence.stems.index
            present = {
                object_id
                for first, ids in sequence.first_ids.items()
                for object_id in ids
                if order(first) < order(stem)
            }
        return frozenset(range(256)) - present

    def shown_ids(self) -> tuple[int, ...]:
        """Ids of objects that are shown to a model: those of DAVIS may have gaps."""
        if self.sequence.first_ids is not None:
            return self.ids
        shown = masks.object_ids(self.sequence.read_labels(self.sequence.given[0]))
        return tuple(i for i in self.ids if i in shown)

    def read_given(self, stem: str) -> np.ndarray:
        """Reads what a model is shown at `stem`: u8[H, W], new ids."""
        return _merge(self.sequence.read_given(stem), self.merged)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol on one split of a data set."""

    name: str  # one of NAMES
    split: str  # the list of sequences
    root: Path  # folder of the data set
    mode: str  # to be stated beside the scores: the folder of the frames, sparse or dense
    tasks: tuple[Task, ...]  # one for each sequence
    note: str = ''  # what else must be stated: which share of the frames is scored

    @property
    def is_scored(self) -> bool:
        """Whether the annotations needed for scores are there."""
        return any(task.scored for task in self.tasks)

    @property
    def label(self) -> str:
        """Names protocol, split and mode in one word, for files."""
        return '-'.join(filter(None, (self.name, self.split, self.mode)))

    @property
    def folder_in_zip(self) -> str:
        """Folder above the sequences in a zip for the server; DAVIS wants none."""
        return '' if self.name in DAVIS else 'Annotations/'


def load(
    name: str,
    root: str | Path,
    split: str | None = None,
    *,
    resolution: str | None = None,
    dense: bool = False,
    need_frames: bool = True,
    videos: str | Path | None = None,
    unseen: str | Path | None = None,
) -> Protocol:
    """Lists the sequences of a split and checks that what the protocol needs is there.

    Args:
      name: one of NAMES.
      root: folder of the data set.
      split: None takes 'val' (DAVIS), 'valid' (YouTube-VOS) or 'train' (local hold-out).
      resolution: DAVIS: folder below JPEGImages and Annotations; None takes 480p or the only one.
      dense: YouTube-VOS: predict on all frames, not on every fifth.
      need_frames: False lists the annotations only, which is enough to score masks.
      videos: local hold-out: file with the names of the videos held out, one per line.
      unseen: local hold-out: file with the categories that training has not seen, one per line.
    """
    if name in DAVIS:
        return _load_davis(name, Path(root), split or 'val', resolution, need_frames)
    if name in YOUTUBE:
        split = split or 'valid'
        sequences = _list_videos(Path(root), split, dense, need_frames)
        # The server holds the annotations: nothing is scored here.
        tasks = tuple(Task(sequence, _ids(sequence), {}) for sequence in sequences)
        return Protocol(name, split, Path(root), 'dense' if dense else 'sparse', tasks)
    if name == LOCAL:
        sequences = _list_videos(Path(root), split or 'train', dense, need_frames)
        return _load_local(sequences, Path(root), split or 'train', dense, videos, unseen)
    raise InputError(f'--protocol={name} is not known; take one of {", ".join(NAMES)}')


def _load_davis(name, root, split, resolution, need_frames):
    year = '2016' if name == 'davis2016' else '2017'
    is_sparse = name == SPARSE
    if need_frames:
        sequences = layouts.davis(root, split, year, resolution)
    else:
        sequences = annotations.list_davis(root, split, year, resolution, sparse=is_sparse)
    folder = _mask_folder(sequences[0]).parents[sequences[0].name.count('/')].name
    tasks = tuple(_davis_task(one, name == 'davis2016', is_sparse) for one in sequences)
    unscored = [task for task in tasks if not task.scored]
    if 0 < len(unscored) < len(tasks):
        raise InputError(
            f'{_mask_folder(unscored[0].sequence)}: only the first annotation is here, other '
            'sequences have all; copy the data set again or take it off the list'
        )
    if not is_sparse:
        return Protocol(name, split, root, folder, tasks)
    scored, total = (sum(len(t.scored) for t in tasks), sum(len(t.sequence.frames) for t in tasks))
    note = f'{scored} annotated frames of {total} are scored, as if there were no others'
    return Protocol(name, split, root, folder, tasks, note)


def _mask_folder(sequence):
    return sequence.masks[sequence.given[0]].parent


def _davis_task(sequence, merged, is_sparse):
    """First and last frame are not scored; objects are 1 up to the largest id of the first mask.

    The frames of sparse annotations are those that have one, as if there were no others.
    """
    ids, folder = _ids_of_first(sequence, merged), _mask_folder(sequence)
    stems = tuple(sequence.masks) if is_sparse else sequence.stems
    inner = stems[1:-1]
    if inner and len(sequence.masks) == 1:  # test-dev: only the first annotation is public
        return Task(sequence, ids, {}, merged)
    missing = [stem for stem in inner if stem not in sequence.masks]
    if missing:
        raise InputError(
            f'{folder / missing[0]}.png: this annotation is missing; without it '
            f'{sequence.name} cannot be scored, copy the data set again; a set of which only some '
            f'frames are annotated is scored with --protocol={SPARSE}'
        )
    if not inner:
        raise InputError(
            f'{folder}: {len(stems)} {"annotated " if is_sparse else ""}frames; the first and the '
            'last are not scored, so at least 3 are needed; take it off the list'
        )
    return Task(sequence, ids, dict.fromkeys(inner, ids), merged)


def _ids_of_first(sequence, merged):
    """Objects of the first annotation, without which nothing could be followed or scored."""
    found = masks.object_ids(sequence.read_labels(sequence.given[0]))
    if not len(found):
        sequence.read_given(sequence.given[0])  # says why there are none
    return tuple(range(1, 1 + (1 if merged else int(found.max()))))


def _list_videos(root, split, dense, need_frames):
    """The frames are listed where they are needed, and shown in the report where they are there."""
    meta = root / split / 'meta.json'
    if not meta.is_file():
        raise InputError(
            f'{meta}: no such file; --data is the folder that holds {split}/meta.json and '
            f'{split}/Annotations of YouTube-VOS'
            f'{annotations.hint_near(root, f"{split}/meta.json")}'
        )
    images = root / (f'{split}_all_frames' if dense else split) / 'JPEGImages'
    if need_frames or images.is_dir():
        return layouts.youtube_vos(root, split, all_frames=dense)
    return annotations.list_youtube(root, split)


def _load_local(sequences, root, split, dense, videos, unseen):
    """Annotated frames after each object's first are scored, the last one too."""
    if videos:
        sequences = _select(sequences, Path(videos))
    categories = _read_categories(root / split / 'meta.json') if unseen else None
    unseen = _read_unseen(unseen, categories) if unseen else None
    tasks = tuple(_local_task(sequence, categories, unseen) for sequence in sequences)
    return Protocol(LOCAL, split, root, 'dense' if dense else 'sparse', tasks)


def _local_task(sequence, categories, unseen):
    ids = _ids(sequence)
    order = {stem: index for index, stem in enumerate(sequence.stems)}
    first = {i: order[stem] for stem in sequence.given for i in sequence.first_ids[stem]}
    scored = {}
    for stem in sequence.required:
        present = tuple(i for i in ids if first[i] < order[stem])
        if present and stem not in sequence.masks:
            raise InputError(
                f'{_mask_folder(sequence) / stem}.png: this annotation is missing, of a frame that '
                f'meta.json names; without it {sequence.name} cannot be scored, copy the data set '
                'again or leave it out with --videos'
            )
        if present:
            scored[stem] = present
    groups = None
    if unseen is not None:
        groups = {i: 'unseen' if categories[sequence.name][i] in unseen else 'seen' for i in ids}
    return Task(sequence, ids, scored, groups=groups)


def _select(sequences, path):
    by_name = {sequence.name: sequence for sequence in sequences}
    names = lists.parse_sequences(lists.read_bytes(path), path)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise InputError(f'{path}: video {unknown[0]} is not in meta.json; correct the list')
    return [by_name[name] for name in names]


def _read_unseen(path, categories):
    known = {category for objects in categories.values() for category in objects.values()}
    unseen = lists.read_lines(path)
    for name in unseen:
        if name not in known:
            hint = listing.hint_among((name,), sorted(known))
            raise InputError(f'{path}: {name} is no category of meta.json{hint}; correct the list')
    return unseen


def _read_categories(path):
    videos = lists.read_meta(path)
    if not all(listed.category for objects in videos.values() for listed in objects.values()):
        raise InputError(f'{path}: objects without a category; --unseen needs them')
    return {
        name: {object_id: listed.category for object_id, listed in objects.items()}
        for name, objects in videos.items()
    }


def _ids(sequence):
    return tuple(sorted(i for ids in sequence.first_ids.values() for i in ids))


def _merge(labels, merged):
    return (labels > 0).view(np.uint8) if merged else labels
