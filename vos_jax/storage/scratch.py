"""Arrays that a thread writes again and again.

A fresh array of a megabyte costs page faults: decoding a 480p JPEG into one takes a third more time
than into an array that was used before.
"""

import threading

import numpy as np

_LOCAL = threading.local()


def scratch(use, shape):
    """Gives the calling thread's array for a use; its content holds until the thread asks again.

    Args:
      use: name of the use; each has one array per thread.
      shape: tuple of int.

    Returns:
      u8[shape] of undefined content.
    """
    array = getattr(_LOCAL, use, None)
    if array is None or array.shape != tuple(shape):
        array = np.empty(shape, np.uint8)
        setattr(_LOCAL, use, array)
    return array
