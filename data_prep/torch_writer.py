"""Writes a PyTorch checkpoint without PyTorch: the zip form of 1.6 and later.

`torch.load(FILE, weights_only=True)` reads it.
"""

import io
import pickle
import struct
import zipfile

import numpy as np

from vos_jax.storage.atomic import write_bytes

STORAGES = {'float32': 'FloatStorage', 'int64': 'LongStorage'}


def write(path, arrays):
    """Writes a dict of float32 and int64 arrays as a whole file, *.pth."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_STORED) as archive:

        def add(name, data):
            # A fixed date: the same weights give the same file.
            archive.writestr(zipfile.ZipInfo(f'archive/{name}', (1980, 1, 1, 0, 0, 0)), data)

        add('data.pkl', _pickle(arrays))
        add('byteorder', 'little')
        for index, array in enumerate(arrays.values()):
            contiguous = np.ascontiguousarray(array)
            add(f'data/{index}', contiguous.astype(contiguous.dtype.newbyteorder('<')).tobytes())
        add('version', '3\n')
    write_bytes(path, buffer.getvalue())


def _pickle(arrays):
    """OrderedDict of tensors as PyTorch pickles them, written opcode by opcode.

    Python's pickler writes the name of a function only if it can import it.
    """
    ordered_dict = _global('collections', 'OrderedDict') + pickle.EMPTY_TUPLE + pickle.REDUCE
    out = pickle.PROTO + b'\x02' + ordered_dict + pickle.MARK
    for index, (name, array) in enumerate(arrays.items()):
        storage = (
            _text('storage'),
            _global('torch', STORAGES[array.dtype.name]),
            _text(str(index)),
            _text('cpu'),
            _number(array.size),
        )
        strides = np.cumprod((1, *array.shape[:0:-1]))[::-1] if array.ndim else ()
        arguments = (
            _tuple(storage) + pickle.BINPERSID,
            _number(0),
            _tuple(map(_number, array.shape)),
            _tuple(map(_number, strides)),
            pickle.NEWFALSE,
            ordered_dict,
        )
        tensor = _global('torch._utils', '_rebuild_tensor_v2') + _tuple(arguments) + pickle.REDUCE
        out += _text(name) + tensor
    return out + pickle.SETITEMS + pickle.STOP


def _global(module, name):
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode()


def _text(text):
    data = text.encode()
    return pickle.BINUNICODE + struct.pack('<I', len(data)) + data


def _number(number):
    return pickle.LONG1 + b'\x08' + struct.pack('<q', number)


def _tuple(items):
    return pickle.MARK + b''.join(items) + pickle.TUPLE
