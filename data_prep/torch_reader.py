"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running code in it.

A checkpoint is a pickle that names storages, and their bytes. A pickle can name any function; here
it finds the few that describe tensors, and everything else ends the reading. Two forms exist: a zip
archive (PyTorch 1.6 and later), and pickles followed by raw bytes (before).
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from vos_jax.errors import InputError
from vos_jax.storage.paths import is_bucket, open_whole

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
DTYPES = {
    'FloatStorage': np.dtype('<f4'),
    'DoubleStorage': np.dtype('<f8'),
    'HalfStorage': np.dtype('<f2'),
    'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
    'LongStorage': np.dtype('<i8'),
    'IntStorage': np.dtype('<i4'),
    'ShortStorage': np.dtype('<i2'),
    'CharStorage': np.dtype('i1'),
    'ByteStorage': np.dtype('u1'),
    'BoolStorage': np.dtype('?'),
}
# Where a checkpoint holds more than weights, they stand under one of these keys.
KEYS = ('state_dict', 'model', 'model_state_dict', 'net', 'network')
_MOST_PICKLED = 1 << 26  # names and shapes; a thousandth of it is usual
ADVICE = 'save the weights alone: torch.save(model.state_dict(), FILE)'


class _Broken(Exception):
    """The file does not hold what its form promises."""


class _Refused(Exception):
    """The pickle names something that is no part of a tensor."""


# Tuples, whose attributes nothing in a pickle can set.
class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def read(path):
    """Reads the state_dict of a file of `torch.save`: it alone, or under a usual key of a dict.

    Returns:
      Dict of arrays by name, in the order of the file; dtypes are those of the file.

    Raises:
      InputError: where the file is missing, cut off, no checkpoint, or names code.
    """
    if not is_bucket(path) and not Path(path).is_file():
        raise InputError(f'{path}: no such file; needed: a checkpoint of torch.save')
    try:
        with open_whole(path) as file:
            return _read(file)
    except _Refused as error:
        raise InputError(
            f'{path}: its pickle names {error}, which is no part of a tensor; nothing of it was '
            f'run. Where you trust the file, {ADVICE}'
        ) from error
    except _Broken as error:
        raise InputError(f'{path}: {error}') from error
    # Whatever a damaged pickle or archive brings about; it has run no code.
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'[:120]
        raise InputError(f'{path}: damaged ({reason}); copy it again') from error


def _read(file):
    head = file.read(len(MAGIC))
    is_zip = zipfile.is_zipfile(file)
    file.seek(0)
    if is_zip:
        root, load = _open_zip(file)
    elif head.startswith(b'PK'):
        raise _Broken('cut off: a zip archive without its end; copy it again')
    elif head.startswith(MAGIC):
        root, load = _open_legacy(file)
    else:
        raise _Broken(f'no checkpoint of torch.save; {ADVICE}')
    tensors = _state_dict(root)
    read_storage = _remembered(load)
    return {name: _array(tensor, read_storage) for name, tensor in tensors.items()}


def _state_dict(root):
    """The mapping of names to tensors."""
    candidates = [root]
    if isinstance(root, Mapping):
        candidates += [dict.get(root, key) for key in KEYS]
    for found in candidates:
        if isinstance(found, dict) and found:
            items = dict(dict.items(found))
            if all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in items.items()):
                return items
    kind = type(root).__name__
    if isinstance(root, dict):
        kind = f'dict of {", ".join(map(repr, list(dict.keys(root))[:5])) or "nothing"}'
    raise _Broken(f'holds no state_dict but a {kind[:200]}; {ADVICE}')


def _open_zip(file):
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}
    roots = [name for name in members if name.endswith('data.pkl') and name.count('/') == 1]
    if len(roots) != 1:
        raise _Broken(f'a zip archive without data.pkl, so no checkpoint of torch.save; {ADVICE}')
    folder = roots[0].removesuffix('data.pkl')
    order = folder + 'byteorder'
    if order in members and _read_small(archive, members[order], 16) != b'little':
        raise _Broken('written on a big-endian machine; save it again on another one')
    root = _unpickle(io.BytesIO(_read_small(archive, members[roots[0]], _MOST_PICKLED)))

    def load(storage):
        info = members[f'{folder}data/{storage.key}']
        needed = storage.size * storage.dtype.itemsize
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != needed:
            raise _Broken(f'storage {storage.key} has not its {needed} bytes; copy the file again')
        return archive.read(info)

    return root, load


def _read_small(archive, info, most_bytes):
    """Reads a member that cannot be large; of a packed one a few bytes may become gigabytes."""
    if info.file_size > most_bytes:
        raise _Broken(f'{info.filename} is larger than {most_bytes:,} bytes; {ADVICE}')
    return archive.read(info)


def _open_legacy(file):
    _unpickle(file)  # the magic number
    version, about = _unpickle(file), _unpickle(file)
    if version != 1001 or not about.get('little_endian'):
        raise _Broken(f'of an unknown form (version {version}); save it again with a newer PyTorch')
    storages = {}
    root, keys = _unpickle(file, storages), _unpickle(file)
    data = {}
    for key in keys:
        size = int.from_bytes(_exactly(file, 8), 'little')
        storage = storages.get(key)
        if storage is None or storage.size != size:
            raise _Broken(f'storage {key} has not the size it should have; copy the file again')
        data[key] = _exactly(file, size * storage.dtype.itemsize)
    return root, lambda storage: data[storage.key]


def _exactly(file, count):
    data = file.read(count)
    if len(data) != count:
        raise _Broken(f'cut off: {count - len(data)} bytes are missing; copy it again')
    return data


def _unpickle(file, storages=None):
    return _Unpickler(file, storages).load()


class _Unpickler(pickle.Unpickler):
    """Knows tensors, storages and OrderedDict; finds nothing else."""

    def __init__(self, file, storages=None):
        super().__init__(file, encoding='utf-8')
        self._storages = {} if storages is None else storages

    def find_class(self, module, name):
        known = {
            ('collections', 'OrderedDict'): collections.OrderedDict,
            ('torch._utils', '_rebuild_tensor'): _RebuildTensor(),
            ('torch._utils', '_rebuild_tensor_v2'): _RebuildTensor(),
            ('torch._utils', '_rebuild_parameter'): _RebuildParameter(),
        }
        if (module, name) in known:
            return known[module, name]
        if module == 'torch' and name in DTYPES:
            return _StorageType(name)
        raise _Refused(f'{module}.{name}'[:100])

    def persistent_load(self, pid):
        kind, storage_type, key, _, size, *view = pid
        if kind != 'storage' or not isinstance(storage_type, _StorageType) or any(view):
            raise _Broken(f'has a storage of an unknown form; {ADVICE}')
        if type(key) is not str or type(size) is not int or size < 0:
            raise _Broken('has a storage without name or size; copy it again')
        storage = _Storage(DTYPES[storage_type.name], key, size)
        if self._storages.setdefault(key, storage) != storage:
            raise _Broken(f'storage {key} is described in two ways; copy it again')
        return storage


class _StorageType(NamedTuple):
    name: str


class _RebuildTensor:
    """Stands for torch's function: of a Python function a pickle could set the defaults."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *_):
        return _Tensor(storage, offset, shape, strides)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor, *_):
        return tensor


def _remembered(load):
    """Tensors may share a storage: reads each once."""
    loaded = {}

    def read_storage(storage):
        if storage.key not in loaded:
            array = np.frombuffer(load(storage), storage.dtype)
            if array.size != storage.size:
                raise _Broken(f'storage {storage.key} is cut off; copy the file again')
            loaded[storage.key] = array
        return loaded[storage.key]

    return read_storage


def _array(tensor, read_storage):
    """The tensor's values. Nothing outside of its storage is touched, whatever the file says."""
    shape, strides, offset = tuple(tensor.shape), tuple(tensor.strides), tensor.offset
    numbers = (*shape, *strides, offset)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise _Broken('has a tensor of an impossible shape; copy it again')
    count = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides))
    size = tensor.storage.size
    if count > size or (count and last >= size):
        raise _Broken('has a tensor that is larger than its storage; copy it again')
    flat = read_storage(tensor.storage)
    if not count:
        return np.zeros(shape, flat.dtype)
    strides = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, strides).copy()
