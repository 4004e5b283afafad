"""Checksums: of files, and of arrays by name. CRC-32, against damage and mistakes, not malice."""

import json
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
        crc = zlib.crc32(host.reshape(-1).view(np.uint8).data, zlib.crc32(name.encode(), crc))
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


def seal(values):
    """The values of a JSON file with their checksum, which `is_whole` compares.

    >>> is_whole(seal({'step': 3})), is_whole(seal({'step': 3}) | {'step': 4})
    (True, False)
    """
    return {**values, 'checksum': of_bytes(json.dumps(values, sort_keys=True).encode())}


def is_whole(values):
    """Whether values are as they were sealed; also where they never were, as in older files."""
    content = {name: value for name, value in values.items() if name != 'checksum'}
    return 'checksum' not in values or values == seal(content)
