"""What reading a damaged file can raise, as one InputError."""

import contextlib
import errno

from vos_jax.errors import InputError, first_line
from vos_jax.storage.paths import explained

# Reading never raises these: what is read is written elsewhere at the same time.
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextlib.contextmanager
def reading(path, what, remedy='copy it again'):
    """A context for reading a file of a known form: whatever is wrong with it is an InputError.

    Only for code that reads and does nothing else, since a defect in it would be called damage.

    Args:
      path: the file, named in the message.
      what: what the file should be, as 'a whole weights file of vos_jax'.
      remedy: what to do instead.

    >>> with reading('a.json', 'a list of names'):
    ...     _ = [][0]
    Traceback (most recent call last):
    vos_jax.errors.InputError: a.json: not a list of names (list index out of range); copy it again
    """
    try:
        with explained(path, 'cannot be read'):
            yield
    except (InputError, ImportError):
        raise
    except FileNotFoundError as error:
        raise InputError(f'{path}: no such file; {remedy}') from error
    except IsADirectoryError as error:
        raise InputError(f'{path}: a folder, not {what}; name the file') from error
    except OSError as error:
        if error.errno in _OF_WRITING:
            raise
        reason = error.strerror or first_line(error)
        raise InputError(f'{path}: cannot be read ({reason}); {remedy}') from error
    except Exception as error:  # whatever the libraries of the formats raise
        raise InputError(f'{path}: not {what} ({first_line(error)}); {remedy}') from error
