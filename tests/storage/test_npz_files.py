"""Archives of arrays: what is written comes back, every damage is one line."""

import io
import zipfile

import numpy as np
import pytest

from vos_jax.errors import InputError
from vos_jax.storage.npz_files import read_npy, read_npz, write_npz

ARRAYS = {
    'file': np.arange(6, dtype=np.int32).reshape(2, 3),
    'a/b': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    'empty': np.zeros((0, 4), np.float32),
    'number': np.float32(3),
    'text': np.array('abc'),
}


@pytest.mark.parametrize('compressed', [False, True])
def test_arrays_come_back(tmp_path, compressed):
    write_npz(tmp_path / 'a.npz', ARRAYS, compressed)
    found = read_npz(tmp_path / 'a.npz')
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.asarray(array).dtype
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)
    with np.load(tmp_path / 'a.npz') as by_numpy:
        np.testing.assert_array_equal(by_numpy['a/b'], ARRAYS['a/b'])
    assert [p.name for p in tmp_path.iterdir()] == ['a.npz']


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in 'ab':
        write_npz(tmp_path / name, ARRAYS)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_files_of_numpy_are_read(tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.eye(3))
    np.save(tmp_path / 'x.npy', np.eye(3))
    np.testing.assert_array_equal(read_npz(tmp_path / 'a.npz')['x'], np.eye(3))
    np.testing.assert_array_equal(read_npy(tmp_path / 'x.npy'), np.eye(3))


def npy(header, content=b''):
    text = header.encode().ljust(117) + b'\n'
    return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text + content


def zipped(name, content, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', **options) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


HOSTILE = {
    'empty': b'',
    'text': b'no archive',
    'no member': zipped('x.txt', b''),
    'not an array': zipped('x.npy', b'text'),
    'shape of 36 TB': zipped(
        'x.npy', npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000,)}")
    ),
    'negative shape': zipped(
        'x.npy', npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b'0000')
    ),
    'true as size': zipped(
        'x.npy', npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", b'0000')
    ),
    'objects': zipped(
        'x.npy', npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b'00000000')
    ),
    'deep header': zipped('x.npy', npy('(' * 3000)),
    'open string in the header': zipped('x.npy', npy("{'descr")),
    'open bracket in the header': zipped('x.npy', npy("{'descr': (\n")),
    'longer than its array': zipped(
        'x.npy', npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", b'00')
    ),
    'unknown version': zipped('x.npy', b'\x93NUMPY\x09\x00aaaa'),
    'bzip2': zipped(
        'x.npy',
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", b'0'),
        compression=zipfile.ZIP_BZIP2,
    ),
}


@pytest.mark.parametrize('content', HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_line(tmp_path, content):
    (tmp_path / 'w.npz').write_bytes(content)
    with pytest.raises(InputError, match=r'w\.npz: not a whole \.npz file'):
        read_npz(tmp_path / 'w.npz')


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_an_array_that_is_there_twice_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for _ in range(2):
            archive.writestr(
                'x.npy', npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", b'0')
            )
    (tmp_path / 'w.npz').write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match='there twice'):
        read_npz(tmp_path / 'w.npz')


def test_an_encrypted_member_is_refused(tmp_path):
    data = bytearray(HOSTILE['bzip2'])
    for signature, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / 'w.npz').write_bytes(bytes(data))
    with pytest.raises(InputError, match='encrypted'):
        read_npz(tmp_path / 'w.npz')


def test_a_file_that_grows_too_much_is_refused_before_it_is_read(tmp_path):
    write_npz(tmp_path / 'w.npz', {'x': np.zeros(10**6, np.uint8)}, compressed=True)
    with pytest.raises(InputError, match=r'would take 1,000,128 bytes, at most 1,000,000 are read'):
        read_npz(tmp_path / 'w.npz', most_bytes=10**6)
    assert read_npz(tmp_path / 'w.npz')['x'].size == 10**6


@pytest.mark.parametrize('compressed', [False, True])
def test_each_flipped_bit_is_harmless_or_one_line(tmp_path, compressed, rng):
    arrays = {name: rng.normal(size=(3, 4)).astype(np.float32) for name in ('params/a', 'b')}
    write_npz(tmp_path / 'whole.npz', arrays, compressed)
    whole, path, refused = (tmp_path / 'whole.npz').read_bytes(), tmp_path / 'w.npz', 0
    for bit in rng.choice(8 * len(whole), 500, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_npz(path)
        except InputError:
            refused += 1
            continue
        assert all(np.array_equal(found[name], arrays[name]) for name in found if name in arrays)
    assert refused > 250
