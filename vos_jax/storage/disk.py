"""Output folders, and what the disk refuses: found before the work, reported in one line."""

import contextlib
import errno
import fcntl
import os
import tempfile
import uuid
from pathlib import Path

from vos_jax.errors import InputError, disk_reason
from vos_jax.storage.mirror import Mirror
from vos_jax.storage.paths import check_object, explained, is_bucket, path_of, probe_bucket

_KEPT = 'What is finished is kept, the same command resumes'
# Errors of writing, which come without the name of a file.
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def prepare_folder(folder, flag='--out'):
    """Writes a file into a folder, local or gs://, and removes it again: it fails before the work.

    A folder that was not there is made for this and is not there afterwards either, so a refusal
    that comes later leaves nothing behind.

    Raises:
      InputError: where the folder, which `flag` named, cannot be made or written to.
    """
    folder = path_of(folder)
    if is_bucket(folder):
        probe_bucket(folder)
        return
    try:
        _probe(folder)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = disk_reason(error) or getattr(error, 'strerror', None) or error
        raise InputError(f'{folder}: cannot be written ({reason}); name another {flag}') from error


def _probe(folder, tries=3):
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    probe = folder / f'.probe.{uuid.uuid4().hex[:8]}.tmp'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b'0')
    except FileNotFoundError:
        if tries == 1:
            raise
        _probe(folder, tries - 1)  # another process of the run has just removed the same folder
    finally:
        with contextlib.suppress(OSError, ValueError):
            probe.unlink(missing_ok=True)
        for path in missing:
            with contextlib.suppress(OSError, ValueError):
                path.rmdir()


def prepare_file(path, flag='--out'):
    """Makes the folder of a file and probes it; refuses a folder instead of the file."""
    path = path_of(path)
    check_object(path)
    prepare_folder(path.parent, flag)
    if is_bucket(path):
        return
    try:
        is_folder = path.is_dir()
        os.stat(path)  # refuses a name that is too long, or a link to itself
    except FileNotFoundError:
        return
    except OSError as error:
        reason = disk_reason(error) or error
        raise InputError(f'{path}: cannot be written ({reason}); name another {flag}') from error
    if is_folder:
        raise InputError(f'{path}: a folder; name a file with {flag}')


def remove_empty_folders(folder):
    """Removes the folders in a folder that hold no file, and itself where it holds none."""
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # not empty, or another process has been faster
            os.rmdir(place)


@contextlib.contextmanager
def writing_to(folder, flag='--out', known_by=None):
    """Probes an output folder, explains what the disk refuses, and leaves no empty folder behind.

    Args and errors: as of `prepare_folder`, and `known_by` as of the Mirror that is given. A local
    folder that was not there is removed after an error, unless it holds a file by then.
    """
    stays = is_bucket(folder)  # and the Mirror probes it
    if not stays:
        prepare_folder(folder, flag)
        stays = Path(folder).exists()
    try:
        with explain_disk_errors(folder, flag), Mirror(folder, known_by) as mirror:
            yield mirror
    except Exception:
        if not stays:
            remove_empty_folders(folder)
        raise


@contextlib.contextmanager
def explain_disk_errors(below, flag='--out'):
    """Turns what the disk refuses below a folder into an InputError.

    Errors of other files, such as an input that may not be read, pass: `run_main` reports them
    by their name. `below` may be a file; `flag` named it.
    """
    try:
        with explained(below):
            yield
    except InputError:
        raise
    except Exception as error:
        reason = disk_reason(error)
        if is_bucket(below):  # written here first
            below, flag = tempfile.gettempdir(), 'TMPDIR'
        if reason is None or not _is_below(error, Path(below)):
            raise
        place = _named(error) or below
        raise InputError(
            f'{place}: cannot be written ({reason}); make room or name another {flag}. {_KEPT}'
        ) from error


def _is_below(error, folder):
    if not isinstance(error, OSError):
        return True  # a library's words for a full disk
    if error.filename is None:
        return error.errno in _OF_WRITING
    if (named := _named(error)) is None:
        return False
    named, folder = named.absolute(), Path(folder).absolute()
    # Also above it: making the folder fails at the first of its parents.
    return folder in (named, *named.parents) or named in folder.parents


def _named(error):
    """Path of the file that an error names, or None. FFmpeg's errors name it as a URL."""
    name = getattr(error, 'filename', None)
    if getattr(error, 'errno', None) in _OF_WRITING:  # of two files the second one is written
        name = getattr(error, 'filename2', None) or name
    if not isinstance(name, str | os.PathLike):
        return None
    return Path(os.fspath(name).removeprefix('file:'))


class FolderLock(contextlib.AbstractContextManager):
    """Holds a folder that one process at a time may work in; leaves no file.

    It ends with `close`, its context, or the process, however that comes.

    Args:
      folder: that is there.
      remedy: what to do where it is held, the end of the message.
      wait: for the one that holds it, instead of refusing.

    Raises:
      InputError: where another one holds it.
    """

    def __init__(self, folder, remedy='', *, wait=False):
        self._handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.close()
            raise InputError(f'{folder}: in use by another process; {remedy}') from None
        except OSError:
            pass  # a file system without locks

    def close(self):
        """Lets others in."""
        os.close(self._handle)

    def __exit__(self, *_):
        self.close()
