"""Masks of any program: finds them, checks them before work starts, reads them frame by frame."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from vos_jax.data import listing, masks
from vos_jax.errors import InputError
from vos_jax.evaluation import forms
from vos_jax.evaluation.protocols import Protocol, Task
from vos_jax.storage.palette import VOID

FORMS = ('ids', 'binary', 'rgb', 'objects', 'arrays')
OVERLAPS = ('error', 'first', 'last')
EXTRA_IDS = ('error', 'drop')


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A folder of masks.

    Attributes:
      root: folder that holds a folder (for arrays a file) for each sequence.
      form: 'ids' (indexed, grey or 1-bit PNG), 'binary' (grey PNG of 0 and 255), 'rgb' (colours
        of a palette), 'objects' (`<sequence>/<id>/<frame>.png`) or 'arrays' (`<sequence>.npz`).
      overlap: for 'objects', who keeps a pixel that two claim: 'first', 'last', or an 'error'.
      extra_ids: what becomes of ids that the task does not have: 'error' or 'drop'.
    """

    root: Path
    form: str = 'ids'
    overlap: str = 'error'
    extra_ids: str = 'error'

    def path(self, name: str, stem: str) -> Path:
        """Gives the file of one frame; for 'objects' the folder of its sequence."""
        if self.form == 'arrays':
            return forms.find_array(self.root, name)
        folder = listing.below(self.root, name)
        if self.form == 'objects':
            return folder
        files = _list_masks(folder)
        found = listing.find_stem(stem, files)
        return folder / f'{stem}.png' if found is None else files[found]

    def files(self, name: str) -> list[Path]:
        """Lists all files of one sequence."""
        if self.form == 'arrays':
            return [forms.find_array(self.root, name)]
        folder = listing.below(self.root, name)
        if self.form == 'objects':
            parts = forms.list_objects(folder).values()
            return [path for _, files in parts for path in files.values()]
        return list(_list_masks(folder).values())

    def read(self, task: Task, stem: str) -> np.ndarray:
        """Reads the prediction of one frame: u8[H, W], ids of the task and 0."""
        path = self.path(task.name, stem)
        labels = self._read_form(path, task, stem)
        if task.merged:
            return (labels > 0).view(np.uint8)
        if self.form == 'binary':  # of the one object, see `check`
            return labels * np.uint8(task.ids[0])
        if self.extra_ids == 'drop':
            return np.where(np.isin(labels, task.ids), labels, np.uint8(0))
        # Most often the largest value settles it; listing the ids takes as long as scoring.
        if labels.max() > len(task.ids) or task.ids != tuple(range(1, len(task.ids) + 1)):
            _refuse_extra(labels, task, path)
        return labels

    def _read_form(self, path, task, stem):
        sequence, size = task.sequence, task.sequence.size
        if self.form == 'rgb':
            return forms.read_colours(path, size)
        if self.form == 'objects':
            return forms.read_objects(path, stem, size, self.overlap, task.absent(stem))
        if self.form == 'arrays':
            return forms.read_array(path, stem, sequence.stems, size)
        return masks.read_labels(path, size, binary=self.form == 'binary')

    def check(self, protocol: Protocol) -> None:
        """Finds missing sequences, missing frames and wrong sizes; reads heads of files only."""
        listing.check_link(self.root)
        if not self.root.is_dir():
            raise InputError(f'{self.root}: no such folder; --results is a folder of masks')
        names = [task.name for task in protocol.tasks]
        missing = [name for name in names if not self._has(name)]
        if len(missing) == len(names):
            raise InputError(f'{self.root}: {_describe_foreign(self.root, protocol)}')
        if missing:
            hint = listing.hint_nearest(self.root / missing[0])
            raise InputError(
                f'{self.root / missing[0]}: this sequence is missing (with {len(missing) - 1} '
                f'others of {len(names)}){hint}; add its masks, each sequence of the split counts'
            )
        self._check_form(protocol)
        for task in protocol.tasks:
            stems = tuple(task.scored if protocol.is_scored else task.sequence.required)
            if self.form == 'objects':
                self._check_objects(task, stems)
            elif self.form != 'arrays':  # these are checked as they are read
                self._check_frames(task, stems)
            if self.extra_ids == 'drop' and not task.merged:
                self._check_drop(task, stems)

    def _check_form(self, protocol):
        """Refuses forms that could not show the objects, which would be scored as lost."""
        several = [task for task in protocol.tasks if len(task.ids) > 1 and not task.merged]
        if self.form == 'binary' and several:
            raise InputError(
                f'--form=binary shows one object, {several[0].name} has '
                f'{len(several[0].ids)}; write ids, or a folder of masks for each object '
                '(--form=objects)'
            )

    def _check_drop(self, task, stems):
        """Refuses masks of which --extra-ids=drop leaves nothing; mostly it reads one of them."""
        found = set()
        for stem in stems:
            labels = self._read_form(self.path(task.name, stem), task, stem)
            found.update(np.unique(labels[labels > 0]).tolist())
            if found & set(task.ids):
                return
        if found:
            few = ', '.join(map(str, sorted(found)[:3]))
            remedy = 'read them with --form=binary' if found == {VOID} else 'correct the ids'
            raise InputError(
                f'{self.path(task.name, stems[0])}: only the values {few} here and in the masks '
                f'after it, of which --extra-ids=drop leaves nothing (objects of {task.name}: '
                f'{", ".join(map(str, task.ids))}); {remedy}'
            )

    def _has(self, name):
        if self.form == 'arrays':
            return forms.find_array(self.root, name).is_file()
        return listing.is_folder(listing.below(self.root, name))

    def _check_objects(self, task, stems):
        found = forms.list_objects(listing.below(self.root, task.name))
        for object_id in () if task.merged else task.shown_ids():
            if object_id not in found:
                raise InputError(
                    f'{self.root / task.name / str(object_id)}: the folder of this object is '
                    'missing; add its masks, empty ones where it is not seen'
                )
        for object_id, (folder, files) in found.items():
            forms.check_shift(folder, task.sequence.stems, tuple(files))
            for stem in stems:
                found = listing.find_stem(stem, files)
                if found is None and object_id not in task.absent(stem):
                    raise InputError(f'{folder / stem}.png: this mask is missing; add it')

    def _check_frames(self, task, stems):
        files = _list_masks(listing.below(self.root, task.name))
        forms.check_shift(self.root / task.name, task.sequence.stems, tuple(files))
        for stem in stems:
            path = self.path(task.name, stem)
            if listing.find_stem(stem, files) is None:
                raise InputError(f'{path}: this mask is missing; write one for each frame')
            _check_head(path, task.sequence.size, self.form)


def _list_masks(folder):
    return _list_at(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)  # a sequence is read frame after frame
def _list_at(folder, _):
    return listing.list_files(folder, ('.png',))


def open_results(root: str | Path, **options) -> Predictions:
    """Makes Predictions of a folder; the sequences may be in its folder `Annotations`."""
    root = Path(root)
    inner = root / 'Annotations'
    return Predictions(inner if inner.is_dir() else root, **options)


def _refuse_extra(labels, task, path):
    extra = np.setdiff1d(np.unique(labels), (0, *task.ids))
    if not len(extra):
        return
    ids = f'objects of {task.name}: {", ".join(map(str, task.ids)) or "none"}'
    if extra[0] == VOID:
        remedy = 'read it with --form=binary' if len(task.ids) == 1 else 'write ids instead of it'
        if np.any((labels > 0) & (labels < VOID)):
            remedy = 'leave it out with --extra-ids=drop'
        raise InputError(f'{path}: value 255 is no object ({ids}); {remedy}')
    raise InputError(
        f'{path}: id {extra[0]} is no object ({ids}); correct it or leave it out with '
        '--extra-ids=drop'
    )


def _describe_foreign(root, protocol):
    found = sorted(path.name for path in root.iterdir() if not listing.is_hidden(path.name))
    return (
        f'none of the {len(protocol.tasks)} sequences of {protocol.name} {protocol.split} is here '
        f'(found {", ".join(found[:3]) or "nothing"}); are these results of another data set?'
    )


def _check_head(path, size, form):
    forms.check_size(path, masks.read_size(path), size)
    if form in ('ids', 'binary') and masks.is_colour(path):
        try:
            masks.read_labels(path, binary=form == 'binary')
        except InputError as error:
            if '--form' in str(error):  # white on black
                raise
            raise InputError(
                f'{error}; or use --form=rgb if each colour is one of the DAVIS palette'
            ) from None
