"""The folder of results: which run it belongs to, what it holds, how far a killed run has come."""

import json
import shutil
from pathlib import Path

from vos_jax.data import masks as mask_files
from vos_jax.errors import InputError
from vos_jax.inference.state_files import read_state, write_state
from vos_jax.storage import checksum
from vos_jax.storage.atomic import remove_leftovers, write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import read_json

_RUN = 'run.json'
_STATE = 'state'
_REMEDY = 'start anew with --overwrite'


class Output:
    """Folder of one run.

    `masks/NAME.png`, `overlay.mp4`, `summary.json`; `run.json` says what run it is, and `state/`
    holds what the model remembers while a run is unfinished.

    Args:
      folder: made where it is missing.
      identity: plain values by name; all that decides the masks.
      overwrite: starts anew where a run has been.

    Raises:
      InputError: where the folder holds something else.
    """

    def __init__(self, folder, identity, *, overwrite=False):
        self.folder = Path(folder)
        self._identity = checksum.of_bytes(json.dumps(identity, sort_keys=True).encode())
        self._sums = {}  # checksum of each mask so far, by its name
        self._states = self.folder / _STATE
        if overwrite and (self.folder / _RUN).is_file():
            shutil.rmtree(self.folder / 'masks', ignore_errors=True)
            self.clear_state()
            for path in (self.overlay, self.folder / 'summary.json'):
                path.unlink(missing_ok=True)
        else:
            self._check(json.loads(json.dumps(identity)))  # tuples come back as lists
        for folder in (self.folder, self.folder / 'masks', self._states):
            remove_leftovers(folder)
        _write_json(self.folder / _RUN, identity)

    @property
    def overlay(self):
        return self.folder / 'overlay.mp4'

    def mask(self, name):
        return self.folder / 'masks' / f'{name}.png'

    def write_mask(self, name, labels):
        mask_files.write_labels(self.mask(name), labels)
        self._sums[name] = checksum.of_file(self.mask(name))

    def read_mask(self, name, size):
        """Reads a mask of the interrupted run; it must be the one that was written."""
        path = self.mask(name)
        if not path.is_file():
            raise InputError(f'{path}: this mask has been removed; {_REMEDY}')
        if self._sums.get(name) != checksum.of_file(path):
            raise InputError(f'{path}: this mask has been changed; {_REMEDY}')
        return mask_files.read_labels(path, size)

    def read_summary(self):
        """The summary of a run that came to its end, or None."""
        path = self.folder / 'summary.json'
        return read_json(path, {'damage': str | None}, _REMEDY) if path.is_file() else None

    def write_summary(self, summary):
        """Writes plain values as summary.json."""
        _write_json(self.folder / 'summary.json', checksum.seal(summary))

    def save_state(self, number, state):
        """Keeps `Segmenter.state()` after frame `number`; the masks up to there are written.

        Entries of the memory never change, so each is written once, in a file of its own.
        """
        about = {'number': number, 'run': self._identity, 'masks': json.dumps(self._sums)}
        write_state(self._states / 'state.npz', state, entries_apart=True, **about)

    def load_state(self):
        """(number, state) as they were saved, or None."""
        path = self._states / 'state.npz'
        if not path.is_file():
            return None
        what = 'a whole state of this run'
        state, about = read_state(path, what, _REMEDY)
        with reading(path, what, _REMEDY):
            if about['run'] != self._identity:
                raise ValueError('it is that of another one')
            self._sums = json.loads(about['masks'])
            return about['number'], state

    def clear_state(self):
        shutil.rmtree(self._states, ignore_errors=True)

    def _check(self, identity):
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return
        if not (self.folder / _RUN).is_file():
            raise InputError(f'{self.folder}: holds something else; name another --out')
        stored = read_json(self.folder / _RUN, dict, _REMEDY)
        for name in sorted(stored.keys() | identity.keys()):
            if stored.get(name) != identity.get(name):
                raise InputError(
                    f"{self.folder}: holds results of another run ('{name}' is "
                    f'{stored.get(name)!r} there, now {identity.get(name)!r}); name another --out, '
                    'or start anew with --overwrite'
                )


def _write_json(path, values):
    """One line for each name: a list of a number for each frame is not read line by line."""
    lines = (f'{json.dumps(name)}: {json.dumps(value)}' for name, value in values.items())
    write_bytes(path, ('{\n ' + ',\n '.join(lines) + '\n}\n').encode())
