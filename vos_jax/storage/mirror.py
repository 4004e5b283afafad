"""Folders that grow, as outputs: written locally, and stored in a bucket where one is named.

A bucket has no appending and no renaming, so whole files are copied there: in the background while
the work goes on, and at its end. Of a local folder nothing is copied.
"""

import fnmatch
import shutil
import tempfile
import threading
from pathlib import Path

from absl import logging

from vos_jax.errors import InputError, one_line
from vos_jax.storage import paths

_EVERY_S = 10.0


class Mirror:
    """A context of writing a folder.

    Args:
      where: the folder, local or gs://.
      known_by: file by which the folder of an earlier run, which is resumed, is known; None:
        nothing is fetched.

    Attributes:
      folder: the local Path to write to: the folder itself, or for one in a bucket a temporary one
        (below TMPDIR).

    Raises:
      InputError: where the bucket refuses, or its folder holds something else.
    """

    def __init__(self, where, known_by=None):
        self.folder, self._where = Path(where), ''
        if not paths.is_bucket(where):
            return
        paths.probe_bucket(paths.path_of(where))
        self._where = str(paths.path_of(where)).rstrip('/')
        self._stored, self._lock, self._end = {}, threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        is_resumed = False
        if known_by:
            with paths.explained(where):
                is_resumed = (paths.path_of(where) / known_by).exists()
                if not is_resumed and any(paths.path_of(where).glob('*')):
                    raise InputError(f'{where}: holds something else; name another --out')
        self.folder = Path(tempfile.mkdtemp(prefix='vos_jax-'))
        if is_resumed:
            self.fetch()

    def fetch(self, pattern='*'):
        """Gets the files of the bucket that are not here yet."""
        if not self._where:
            return
        with self._lock, paths.explained(self._where, 'cannot be read'):
            start = len(self._where.removeprefix('gs://')) + 1
            found = {name[start:] for name in paths.file_system().find(self._where)}
            new = sorted(fnmatch.filter(found - self._stored.keys(), pattern))
            local = [self.folder / name for name in new]
            for path in local:
                path.parent.mkdir(parents=True, exist_ok=True)
            if new:
                paths.file_system().get(self._there(new), list(map(str, local)))
            self._stored |= {name: _state(path) for name, path in zip(new, local)}

    def upload(self):
        """Stores what is new or has changed since, and removes what has gone.

        Raises:
          InputError: where the bucket refuses.
        """
        if not self._where:
            return
        with self._lock, paths.explained(self._where):
            here = self._list()
            new = [name for name in here if here[name] != self._stored.get(name)]
            # What says that others are whole comes after them.
            for last in (False, True):
                part = [name for name in new if name.endswith('.json') == last]
                local = [str(self.folder / name) for name in part]
                if part:
                    paths.file_system().put(local, self._there(part))
            for gone in self._there(self._stored.keys() - here.keys()):
                paths.file_system().rm_file(gone)  # rm would take [1] for a pattern
            self._stored = here

    def _list(self):
        """Size and time of each file by its name, but for those that are still being written."""
        found = {}
        for path in self.folder.rglob('[!.]*'):
            name = path.relative_to(self.folder).as_posix()
            if '.incomplete/' not in name and path.is_file():
                found[name] = _state(path)
        return found

    def _there(self, names):
        return [f'{self._where}/{name}' for name in names]

    def keep_up(self):
        """`upload`, but what goes wrong is a warning: it is raised at the end, if it lasts."""
        try:
            self.upload()
        except Exception as error:  # of whatever client; the thread must not end
            logging.warning('%s', one_line(error) or repr(error))

    def _follow(self):
        while not self._end.wait(_EVERY_S):
            self.keep_up()

    def __enter__(self):
        if self._where:
            self._thread.start()
        return self

    def __exit__(self, kind, *exception):
        if not self._where:
            return
        self._end.set()
        self._thread.join()
        self.keep_up()  # a connection that breaks in the middle is made anew
        try:
            self.upload()
        except InputError as error:
            text = f'{error}. What was written is in {self.folder}'
            if kind is None:
                raise InputError(text) from error
            logging.error('%s', text)
            return
        shutil.rmtree(self.folder, ignore_errors=True)


def _state(path):
    about = path.stat()
    return about.st_size, about.st_mtime_ns
