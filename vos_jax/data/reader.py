"""Reads frames and masks of sequences, and keeps what fits into a given amount of memory."""


class Reader:
    """Decoded frames and masks, kept up to `cache_mb` megabytes.

    Nothing is thrown out again: clips are drawn at random, so any kept file is as likely to be
    wanted as another. The arrays are shared and must not be written to.
    """

    def __init__(self, cache_mb=0):
        self._left = cache_mb * 10**6
        self._kept = {}

    def frame(self, sequence, index):
        """u8[H, W, 3], RGB."""
        return self._read(sequence.frames[index], sequence.read_frame, index)

    def labels(self, sequence, index):
        """u8[H, W] ids of frame `index`, 0 background, 255 void."""
        stem = sequence.stems[index]
        return self._read(sequence.masks[stem], sequence.read_labels, stem)

    def _read(self, path, read, key):
        array = self._kept.get(path)
        if array is None:
            array = read(key)
            # Two threads may both read a file at the same moment; the count is then a little high.
            if array.nbytes <= self._left:
                self._left -= array.nbytes
                self._kept[path] = array
        return array
