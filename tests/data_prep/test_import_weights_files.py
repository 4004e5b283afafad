"""Checkpoint files as torch.save writes them, read and written without PyTorch.

The old form (pickles, then raw bytes) is put together by hand here; that PyTorch itself writes and
reads the same is tested in test_import_weights_pytorch.py.
"""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from data_prep import torch_reader, torch_writer
from vos_jax.errors import InputError

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
ARRAYS = {
    'conv.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    'bn.num_batches_tracked': np.array(1 << 40, np.int64),
    'empty': np.zeros((0, 3), np.float32),
}


def text(value):
    return pickle.BINUNICODE + struct.pack('<I', len(value)) + value.encode()


def number(value):
    return pickle.BININT + struct.pack('<i', value)


def tuple_of(*items):
    return pickle.MARK + b''.join(items) + pickle.TUPLE


def found(module, name):
    return pickle.GLOBAL + f'{module}\n{name}\n'.encode()


def tensor(shape, strides, offset=0, size=6, dtype='FloatStorage', key='0'):
    """Opcodes of one tensor on a storage of `size` numbers."""
    storage = tuple_of(text('storage'), found('torch', dtype), text(key), text('cpu'), number(size))
    parts = (
        storage + pickle.BINPERSID,
        number(offset),
        tuple_of(*map(number, shape)),
        tuple_of(*map(number, strides)),
        pickle.NEWFALSE,
        pickle.EMPTY_DICT,
    )
    return found('torch._utils', '_rebuild_tensor_v2') + tuple_of(*parts) + pickle.REDUCE


def state_dict(**tensors):
    """A pickle of {name: tensor}."""
    items = b''.join(text(name) + value for name, value in tensors.items())
    return pickle.PROTO + b'\x02' + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + b'.'


def write_zip(path, pickled, storages=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', pickled)
        for key, data in enumerate(storages):
            archive.writestr(f'archive/data/{key}', data)
    return path


def write_old(path, pickled, storages=()):
    """The form before PyTorch 1.6."""
    buffer = io.BytesIO()
    about = {'protocol_version': VERSION, 'little_endian': True, 'type_sizes': {}}
    for value in (MAGIC, VERSION, about):
        buffer.write(pickle.dumps(value, protocol=2))
    buffer.write(pickled)
    buffer.write(pickle.dumps([str(key) for key in range(len(storages))], protocol=2))
    for data in storages:
        buffer.write(struct.pack('<q', len(data) // 4) + data)
    path.write_bytes(buffer.getvalue())
    return path


SIX = np.arange(6, dtype='<f4').tobytes()


def test_what_is_written_is_read_bit_by_bit(tmp_path):
    torch_writer.write(tmp_path / 'x.pth', ARRAYS)
    read = torch_reader.read(tmp_path / 'x.pth')
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_the_same_weights_give_the_same_file(tmp_path):
    for name in ('a', 'b'):
        torch_writer.write(tmp_path / name, ARRAYS)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


@pytest.mark.parametrize('write', [write_zip, write_old])
def test_tensors_may_be_views_of_one_storage(tmp_path, write):
    pickled = state_dict(transposed=tensor((3, 2), (1, 3)), tail=tensor((2,), (1,), offset=4))
    read = torch_reader.read(write(tmp_path / 'x.pth', pickled, [SIX]))
    np.testing.assert_array_equal(read['transposed'], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(read['tail'], [4, 5])


@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_weights_are_found_under_a_usual_key(tmp_path, key):
    inner = state_dict(w=tensor((6,), (1,)))[2:-1]
    outer = text('epoch') + number(3) + text(key) + inner
    pickled = b'\x80\x02' + pickle.EMPTY_DICT + pickle.MARK + outer + pickle.SETITEMS + b'.'
    read = torch_reader.read(write_zip(tmp_path / 'x.pth', pickled, [SIX]))
    np.testing.assert_array_equal(read['w'], range(6))


class Harmful:
    """Its unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('write', [write_zip, write_old])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, write):
    victim = tmp_path / 'made'
    path = write(tmp_path / 'x.pth', pickle.dumps({'w': Harmful(victim)}, protocol=2))
    with pytest.raises(InputError, match=r'names \w+\.mkdir, .* nothing of it was run') as error:
        torch_reader.read(path)
    assert '\n' not in str(error.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    ('tensors', 'words'),
    [
        (tensor((7,), (1,)), 'larger than its storage'),
        (tensor((2, 3), (1000, 1)), 'larger than its storage'),
        (tensor((6,), (1,), offset=1), 'larger than its storage'),
        (tensor((1000,), (0,)), 'larger than its storage'),
        (tensor((2,), (-1,), offset=5), 'impossible shape'),
        (tensor((2, 3), (1,)), 'impossible shape'),
        (tensor((6,), (1,), size=7), 'has not its 28 bytes'),
        (tensor((6,), (1,), key='9'), 'damaged'),
        (tensor((6,), (1,), dtype='ComplexStorage'), r'names torch\.ComplexStorage'),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(tmp_path, tensors, words):
    path = write_zip(tmp_path / 'x.pth', state_dict(w=tensors), [SIX])
    with pytest.raises(InputError, match=words):
        torch_reader.read(path)


@pytest.mark.parametrize('write', [write_zip, write_old])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused_in_one_line(tmp_path, write, share):
    whole = write(tmp_path / 'x.pth', state_dict(w=tensor((6,), (1,))), [SIX]).read_bytes()
    (tmp_path / 'x.pth').write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r'x\.pth: ') as error:
        torch_reader.read(tmp_path / 'x.pth')
    assert '\n' not in str(error.value)


def test_a_flipped_byte_in_the_archive_is_noticed(tmp_path):
    path = write_zip(tmp_path / 'x.pth', state_dict(w=tensor((6,), (1,))), [SIX])
    data = bytearray(path.read_bytes())
    data[data.index(SIX) + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r'x\.pth: damaged \(BadZipFile'):
        torch_reader.read(path)


def test_a_compressed_archive_is_refused(tmp_path):
    path = write_zip(
        tmp_path / 'x.pth', state_dict(w=tensor((6,), (1,))), [SIX], zipfile.ZIP_DEFLATED
    )
    with pytest.raises(InputError, match='storage 0 has not its 24 bytes'):
        torch_reader.read(path)


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / 'x.pth'
    with pytest.raises(InputError, match=r'x\.pth: no such file'):
        torch_reader.read(path)
    for data in (b'', b'\x89PNG\r\n', b'{"a": 1}', pickle.dumps({'a': 1})):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r'no checkpoint of torch\.save'):
            torch_reader.read(path)
    np.savez(path.with_suffix('.npz'), a=np.zeros(3))
    with pytest.raises(InputError, match=r'a zip archive without data\.pkl'):
        torch_reader.read(path.with_suffix('.npz'))


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path):
    path = write_zip(tmp_path / 'x.pth', pickle.dumps({'epoch': 3, 'args': [1]}, protocol=2))
    with pytest.raises(InputError, match=r"no state_dict but a dict of 'epoch', 'args'; save"):
        torch_reader.read(path)


def test_a_packed_pickle_could_be_a_bomb(tmp_path):
    pickled = state_dict(w=tensor((6,), (1,)))
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', pickled + b'\0' * 10**8)
    with pytest.raises(InputError, match=r'data\.pkl is larger than'):
        torch_reader.read(path)


def test_a_large_byteorder_is_not_read(tmp_path):
    path = write_zip(tmp_path / 'x.pth', state_dict(w=tensor((6,), (1,))), [SIX])
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('archive/byteorder', b'little' * 1000)
    with pytest.raises(InputError, match='byteorder is larger than 16 bytes'):
        torch_reader.read(path)


def build(target, state):
    """Opcodes that set attributes of what `target` gives, and leave nothing on the stack."""
    return target + state + pickle.BUILD + pickle.POP


@pytest.mark.parametrize('name', ['_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter'])
def test_a_pickle_cannot_change_what_it_may_name(tmp_path, name):
    values = pickle.EMPTY_DICT + text('__defaults__') + tuple_of(number(1)) + pickle.SETITEM
    attack = build(found('torch._utils', name), tuple_of(pickle.NONE, values))
    pickled = state_dict(w=tensor((6,), (1,)))
    for change in (attack, build(found('torch._utils', name), values)):
        path = write_zip(tmp_path / 'x.pth', pickled[:2] + change + pickled[2:], [SIX])
        with pytest.raises(InputError, match=r'x\.pth: damaged \(AttributeError'):
            torch_reader.read(path)


def test_a_tensor_cannot_be_changed_after_it_was_made(tmp_path):
    values = pickle.EMPTY_DICT + text('offset') + number(9) + pickle.SETITEM
    path = write_zip(
        tmp_path / 'x.pth', state_dict(w=tensor((6,), (1,)) + values + pickle.BUILD), [SIX]
    )
    with pytest.raises(InputError, match=r'damaged \(AttributeError'):
        torch_reader.read(path)


def test_a_storage_that_is_shorter_than_it_says_is_not_read_beyond_its_end(tmp_path):
    path = write_zip(tmp_path / 'x.pth', state_dict(w=tensor((6,), (1,))), [SIX[:8]])
    data = bytearray(path.read_bytes())
    start = data.index(b'PK\x01\x02', data.index(b'PK\x01\x02') + 4)
    data[start + 24 : start + 28] = struct.pack('<I', len(SIX))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r'x\.pth: '):
        torch_reader.read(path)
