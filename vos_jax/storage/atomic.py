"""Files appear whole or not at all, and stay when the power fails.

A file is written under a temporary name beside its own, `.NAME.xxxxxxxx.tmp`, brought to the disk
and renamed. One of a bucket is written in a temporary folder and copied whole.
"""

import contextlib
import os
import tempfile
import uuid
from pathlib import Path

from vos_jax.storage import paths


@contextlib.contextmanager
def replacing(path, sync=True):
    """Yields a temporary path to write to; at the end it takes the place of `path`.

    Missing folders are made. After an error nothing is left and `path` stays what it was.

    Args:
      path: file to write.
      sync: whether to wait until file and name are on the disk (some milliseconds). Without it a
        power cut may leave an empty file; enough for the many masks and frames of a video, which
        are compared with a checksum or made again.

    >>> with replacing('/tmp/vos_jax_doctest/a.txt') as temporary:
    ...     _ = temporary.write_text('whole')
    >>> Path('/tmp/vos_jax_doctest/a.txt').read_text()
    'whole'
    """
    path = paths.path_of(path)
    if paths.is_bucket(path):
        with tempfile.TemporaryDirectory() as folder, paths.explained(path):
            yield (local := Path(folder) / path.name)
            paths.file_system().put(str(local), str(path))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        if sync:
            _sync(temporary, os.O_RDWR)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if sync:
        _sync(path.parent, os.O_RDONLY)


def temporary_path(path):
    """A path beside a file, for what is to become it; `remove_leftovers` knows it."""
    # Cut, so that a name of 255 bytes has a temporary one too.
    return path.with_name(f'.{path.name[:50]}.{uuid.uuid4().hex[:8]}.tmp')


def write_bytes(path, data, sync=True):
    """Writes bytes as a whole file; see `replacing`."""
    with replacing(path, sync) as temporary:
        temporary.write_bytes(data)


def remove_leftovers(folder):
    """Removes the temporary files that killed processes left directly in a folder.

    Only for a folder into which nobody else writes at the moment.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in Path(folder).iterdir():
            if path.name[0] == '.' and path.suffix == '.tmp' and path.is_file():
                path.unlink(missing_ok=True)


def _sync(path, flags):
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        os.close(handle)
