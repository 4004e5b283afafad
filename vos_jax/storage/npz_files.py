"""NumPy's archives (.npz) of arrays by name: weights, states, masks, exported programs.

The one reader of them. Sizes are compared with the file before memory is taken, so a damaged or
hostile file ends in one line and not in a full memory; no pickled objects are read.
"""

import os
import zipfile
from math import prod

import numpy as np
from numpy.lib import format as npy

from vos_jax.storage.atomic import replacing
from vos_jax.storage.damage import reading
from vos_jax.storage.paths import open_whole

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LONGEST_HEADER = 10_000  # characters, as NumPy's own limit
# A file may grow by this factor when it is read, and always to this size. Weights grow by 1.1;
# masks by 300.
_MOST_GROWTH, _ALWAYS_BYTES = 100, 2**30


def read_npz(
    path, what='a whole .npz file', remedy='copy it again', most_bytes=None
) -> dict[str, np.ndarray]:
    """Reads all arrays of a file.

    Args:
      path: the file.
      what: what it should be, for the message.
      remedy: what to do about a wrong file, the end of the message.
      most_bytes: of all arrays together; default: 1 GiB or 100 times the file, whichever is more.

    Returns:
      dict of arrays by name, in the order of the file.

    Raises:
      InputError: where the file is missing, cannot be read, is damaged or something else, or its
        arrays are larger than that.
    """
    with reading(path, what, remedy), open_whole(path) as file:
        if most_bytes is None:
            most_bytes = max(_ALWAYS_BYTES, _MOST_GROWTH * file.seek(0, os.SEEK_END))
        with zipfile.ZipFile(file) as archive:
            members = _check_members(archive, most_bytes)
            return {name: _read_member(archive, info) for name, info in members.items()}


def read_npy(path, what='a whole .npy file', remedy='copy it again'):
    """Reads one array; the size that its head states is compared with the file's first.

    Raises:
      InputError: where the file is missing, cannot be read, or is damaged.
    """
    with reading(path, what, remedy), open(path, 'rb') as file:
        return _read_array(file, os.path.getsize(path))


def write_npz(path, arrays, compressed=False):
    """Writes arrays as a whole file; the same arrays give the same bytes.

    One array after the other goes to the disk, so no second copy of all is in memory.

    Args:
      path: the file.
      arrays: dict of arrays by name; jax.Arrays are fetched one by one.
      compressed: smaller and slower.
    """
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with replacing(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f'{name}.npy')  # of the year 1980, whenever it is written
            info.compress_type = method
            info.external_attr = 0o600 << 16
            with archive.open(info, 'w', force_zip64=True) as member:
                npy.write_array(member, np.asarray(array), allow_pickle=False)


def _check_members(archive, most_bytes):
    """The members by the names of their arrays; refuses what no writer of such files makes."""
    members = {}
    for info in archive.infolist():
        name = info.filename.removesuffix('.npy')
        if name == info.filename or name in members:
            raise ValueError(f"'{info.filename[:80]}' is no array, or there twice")
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            raise ValueError(f"'{name[:80]}' is encrypted or packed by an unknown method")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise ValueError(f"'{name[:80]}' has two sizes")
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if total > most_bytes:
        raise ValueError(f'its arrays would take {total:,} bytes, at most {most_bytes:,} are read')
    return members


def _read_member(archive, info):
    with archive.open(info) as file:
        array = _read_array(file, info.file_size)
        if file.read(1):  # reads to the end, where the checksum is compared
            raise ValueError(f"'{info.filename[:80]}' is longer than its array")
    return array


def _read_array(file, size):
    """Reads an array from a file of `size` bytes, which must hold it and nothing else."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f'an array of the unknown version {version}')
    shape, by_columns, dtype = readers[version](file, max_header_size=_LONGEST_HEADER)
    count = prod(shape)
    if dtype.hasobject or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError('an array of objects, or of a negative size')
    if file.tell() + count * dtype.itemsize != size:
        raise ValueError(f'an array of the shape {list(shape)} that has not its bytes')
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise EOFError('an array is cut off')
    array = np.frombuffer(bytearray(data), dtype, count)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)
