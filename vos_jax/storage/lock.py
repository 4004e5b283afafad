"""Folders that one process at a time may work in."""

import fcntl
import os

from vos_jax.errors import InputError


class FolderLock:
    """Holds a folder until `close` or the end of the process, however that comes; leaves no file.

    Raises:
      InputError: where another one holds it.
    """

    def __init__(self, folder, remedy):
        """
        Args:
          folder: that is there.
          remedy: what to do where it is held, the end of the message.
        """
        self._handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise InputError(f'{folder}: in use by another process; {remedy}') from None

    def close(self):
        """Lets others in."""
        os.close(self._handle)
