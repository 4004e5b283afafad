"""Masks of any program: finds them, checks them before work starts, reads them frame by frame."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vos_jax.data import masks
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
        return self.root / name / ('' if self.form == 'objects' else f'{stem}.png')

    def files(self, name: str) -> list[Path]:
        """Lists all files of one sequence."""
        if self.form == 'arrays':
            return [forms.find_array(self.root, name)]
        return sorted(path for path in (self.root / name).rglob('*') if path.is_file())

    def read(self, task: Task, stem: str) -> np.ndarray:
        """Reads the prediction of one frame: u8[H, W], ids of the task and 0."""
        path = self.path(task.name, stem)
        labels = self._read_form(path, task.sequence, stem)
        if task.merged:
            return (labels > 0).astype(np.uint8)
        if self.extra_ids == 'drop':
            return np.where(np.isin(labels, task.ids), labels, np.uint8(0))
        # Most often the largest value settles it; listing the ids takes as long as scoring.
        if labels.max() > len(task.ids) or task.ids != tuple(range(1, len(task.ids) + 1)):
            _refuse_extra(labels, task, path)
        return labels

    def _read_form(self, path, sequence, stem):
        size = sequence.size
        if self.form == 'rgb':
            return forms.read_colours(path, size)
        if self.form == 'objects':
            return forms.read_objects(path, stem, size, self.overlap)
        if self.form == 'arrays':
            return forms.read_array(path, stem, sequence.stems, size)
        return masks.read_labels(path, size, binary=self.form == 'binary')

    def check(self, protocol: Protocol) -> None:
        """Finds missing sequences, missing frames and wrong sizes; reads heads of files only."""
        if not self.root.is_dir():
            raise InputError(f'{self.root}: no such folder; --results is a folder of masks')
        names = [task.name for task in protocol.tasks]
        missing = [name for name in names if not self._has(name)]
        if len(missing) == len(names):
            raise InputError(f'{self.root}: {_describe_foreign(self.root, protocol)}')
        if missing:
            raise InputError(
                f'{self.root / missing[0]}: this sequence is missing (with {len(missing) - 1} '
                f'others of {len(names)}); add its masks, each sequence of the split counts'
            )
        if self.form in ('objects', 'arrays'):
            return  # checked as they are read
        for task in protocol.tasks:
            stems = task.scored if protocol.is_scored else task.sequence.required
            self._check_frames(task, stems)

    def _has(self, name):
        if self.form == 'arrays':
            return forms.find_array(self.root, name).is_file()
        return (self.root / name).is_dir()

    def _check_frames(self, task, stems):
        there = {path.name for path in (self.root / task.name).iterdir()}
        for stem in stems:
            path = self.path(task.name, stem)
            if path.name not in there:
                raise InputError(f'{path}: this mask is missing; write one for each frame')
            _check_head(path, task.sequence.size, self.form)


def open_results(root: str | Path, **options) -> Predictions:
    """Makes Predictions of a folder; the sequences may lie in its folder `Annotations`."""
    root = Path(root)
    inner = root / 'Annotations'
    return Predictions(inner if inner.is_dir() else root, **options)


def _refuse_extra(labels, task, path):
    extra = np.setdiff1d(np.unique(labels), (0, *task.ids))
    if not len(extra):
        return
    ids = f'objects of {task.name}: {", ".join(map(str, task.ids)) or "none"}'
    if extra[0] == VOID:
        raise InputError(
            f'{path}: value 255 is no object ({ids}); read 0/255 masks with --form=binary, '
            'or leave 255 out with --extra-ids=drop'
        )
    raise InputError(
        f'{path}: id {extra[0]} is no object ({ids}); correct it or leave it out with '
        '--extra-ids=drop'
    )


def _describe_foreign(root, protocol):
    found = sorted(path.name for path in root.iterdir() if path.name[0] != '.')
    return (
        f'none of the {len(protocol.tasks)} sequences of {protocol.name} {protocol.split} is here '
        f'(found {", ".join(found[:3]) or "nothing"}); are these results of another data set?'
    )


def _check_head(path, size, form):
    try:
        with Image.open(path) as image:
            found, mode = (image.height, image.width), image.mode
    except UnidentifiedImageError:
        raise InputError(f'{path}: not an image; write it again') from None
    except (OSError, SyntaxError) as error:
        raise InputError(f'{path}: unreadable mask ({error}); write it again') from None
    if found != tuple(size):
        raise InputError(
            f'{path}: mask of size {found[1]}x{found[0]}, its annotation is {size[1]}x{size[0]}; '
            'write masks in the size of the annotation'
        )
    if form != 'rgb' and mode == 'RGB':
        raise InputError(
            f'{path}: colour image, need one channel of object ids; write ids, or use --form=rgb '
            'if each colour is one of the DAVIS palette'
        )
