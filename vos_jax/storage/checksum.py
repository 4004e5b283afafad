"""Checksums: of files, and of arrays by name. CRC-32, against damage and mistakes, not malice."""

import zlib
from pathlib import Path

import numpy as np


def fingerprint(arrays):
    """Eight hexadecimal digits that name the content of some arrays.

    Args:
      arrays: dict of arrays by name; their order does not matter.

    >>> fingerprint({'a': np.zeros(2, np.float32)})
    'ad118149'
    """
    crc = 0
    for name, array in sorted(arrays.items()):
        host = np.ascontiguousarray(np.asarray(array))
        crc = zlib.crc32(host.reshape(-1).view(np.uint8), zlib.crc32(name.encode(), crc))
    return f'{crc:08x}'


def of_bytes(data, before=0):
    """CRC-32 of bytes, as int; `before` is that of what comes before them."""
    return zlib.crc32(data, before)


def of_file(path, before=0):
    """CRC-32 of a file's bytes, as int; `before` is that of what comes before them."""
    with Path(path).open('rb') as file:
        while part := file.read(2**20):
            before = zlib.crc32(part, before)
    return before
