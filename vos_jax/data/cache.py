"""Reads frames and masks of sequences, and keeps what fits into a given amount of memory."""

import threading

import numpy as np

_LOCAL = threading.local()


def scratch(use, shape):
    """The calling thread's u8 array for a use, undefined; it holds until the thread asks again.

    A fresh array of a megabyte costs page faults: decoding a 480p JPEG into one takes a third more
    time than into an array that was used before.
    """
    array = getattr(_LOCAL, use, None)
    if array is None or array.shape != tuple(shape):
        array = np.empty(shape, np.uint8)
        setattr(_LOCAL, use, array)
    return array


class Reader:
    """Decoded frames and masks, kept up to `cache_mb` megabytes.

    Nothing is thrown out again: clips are drawn at random, so any kept file is as likely to be
    wanted as another. The arrays are shared and must not be written to.
    """

    def __init__(self, cache_mb=0):
        self._left = cache_mb * 10**6
        self._kept = {}

    def frame(self, sequence, index, buffer=None):
        """u8[H, W, 4], RGB and padding; it holds until the calling thread reads its next frame.

        `buffer`: contiguous array of this shape into which a JPEG that is not kept is decoded.
        """
        path, shape = sequence.frames[index], (*sequence.size, 4)
        kept = self._kept.get(path)
        if kept is not None:
            return kept
        # Two threads may both read a file at the same moment; the count is then a little high.
        if shape[0] * shape[1] * 4 <= self._left:
            return self._keep(path, sequence.read_frame(index, pad=True))
        buffer = scratch('frame', shape) if buffer is None else buffer
        return sequence.read_frame(index, pad=True, buffer=buffer)

    def labels(self, sequence, index):
        """u8[H, W] ids of frame `index`, 0 background, 255 void."""
        stem = sequence.stems[index]
        path = sequence.masks[stem]
        kept = self._kept.get(path)
        if kept is not None:
            return kept
        labels = sequence.read_labels(stem)
        return self._keep(path, labels) if labels.nbytes <= self._left else labels

    def _keep(self, path, array):
        self._left -= array.nbytes
        self._kept[path] = array
        return array
