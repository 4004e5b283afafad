import io
import json
import types

import ml_dtypes
import numpy as np
import pytest

from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.storage.npz_files import write_npz

CONFIG = {'model': {'name': 'giel', 'widths': (8, 16), 'clip': None}}


def variables(rng):
    return {
        'params': {
            'key': {'kernel': rng.normal(size=(3, 3, 2, 4)).astype(np.float32)},
            'scale': np.float32(2.5),
        },
        'batch_stats': {'bn': {'mean': np.zeros(4, np.float32), 'count': np.int32(7)}},
    }


def assert_equal(found, needed):
    found, needed = weights.named(found), weights.named(needed)
    assert found.keys() == needed.keys()
    for name, array in needed.items():
        assert found[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found[name], array)


def test_weights_config_and_extra_come_back(tmp_path, rng):
    path = tmp_path / 'small.npz'
    weights.export_weights(path, variables(rng), CONFIG, {'steps': 12, 'jf': 0.25})
    loaded = weights.load_weights(path)
    assert_equal(loaded.variables, variables(np.random.default_rng(20210625)))
    assert loaded.config == CONFIG
    assert loaded.extra == {'steps': 12, 'jf': 0.25}
    assert [p.name for p in tmp_path.iterdir()] == ['small.npz']


def test_float16_halves_the_file_and_comes_back_as_float32(tmp_path, rng):
    tree = {'params': {'w': rng.normal(size=4096).astype(np.float32)}}
    weights.export_weights(tmp_path / 'full.npz', tree, CONFIG)
    weights.export_weights(tmp_path / 'half.npz', tree, CONFIG, dtype='float16')
    loaded = weights.load_weights(tmp_path / 'half.npz').variables['params']['w']
    assert loaded.dtype == np.float32
    # float16: 11 significant bits, and steps of 2^-24 below 2^-14
    np.testing.assert_allclose(loaded, tree['params']['w'], rtol=2**-11, atol=2**-25)
    sizes = [(tmp_path / name).stat().st_size for name in ('half.npz', 'full.npz')]
    assert sizes[0] < 0.6 * sizes[1]


def test_bfloat16_weights_are_kept_exactly(tmp_path):
    tree = {'params': {'w': np.array([1.5, -3.0], ml_dtypes.bfloat16)}}
    weights.export_weights(tmp_path / 'w.npz', tree, CONFIG)
    loaded = weights.load_weights(tmp_path / 'w.npz').variables['params']['w']
    np.testing.assert_array_equal(loaded, np.array([1.5, -3.0], np.float32))


def test_a_weight_too_large_for_float16_is_refused_by_name(tmp_path):
    tree = {'params': {'w': np.array([7e4], np.float32)}}
    with pytest.raises(ValueError, match="'params/w' has values that are not finite in float16"):
        weights.export_weights(tmp_path / 'w.npz', tree, CONFIG, dtype='float16')
    assert not list(tmp_path.iterdir())


def test_the_same_weights_give_the_same_bytes(tmp_path, rng):
    tree = variables(rng)
    for name in ('a.npz', 'b.npz'):
        weights.export_weights(tmp_path / name, tree, CONFIG)
    assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'none\.npz: no such file'):
        weights.load_weights(tmp_path / 'none.npz')


def archive_of_another_program():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


def bare_array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize('content', [b'', b'text', bare_array(), archive_of_another_program()])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / 'w.npz').write_bytes(content)
    with pytest.raises(InputError, match=r'w\.npz: not a whole weights file'):
        weights.load_weights(tmp_path / 'w.npz')


@pytest.mark.parametrize('fraction', [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, rng, fraction):
    path = tmp_path / 'w.npz'
    weights.export_weights(path, variables(rng), CONFIG)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(InputError, match='not a whole weights file'):
        weights.load_weights(path)


def test_a_flipped_bit_is_noticed(tmp_path, rng):
    path = tmp_path / 'w.npz'
    weights.export_weights(path, variables(rng), CONFIG)
    damaged = bytearray(path.read_bytes())
    damaged[120] ^= 1  # inside the first array's compressed bytes
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match='not a whole weights file'):
        weights.load_weights(path)


def store(path, about, **arrays):
    text = json.dumps(about)
    write_npz(path, {'__metadata__': np.frombuffer(text.encode(), np.uint8), **arrays})
    return path


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
    about = {'format': 1, 'config': {}, 'extra': {}}
    store(tmp_path / 'w.npz', about, **{'params/w': np.array([1, value], np.float32)})
    with pytest.raises(InputError, match="'params/w' has values that are not finite"):
        weights.load_weights(tmp_path / 'w.npz')


@pytest.mark.parametrize('dtype', ['float64', 'complex64', 'U3'])
def test_arrays_in_another_precision_are_refused_by_name(tmp_path, dtype):
    about = {'format': 1, 'config': {}, 'extra': {}}
    store(tmp_path / 'w.npz', about, **{'params/w': np.zeros(2, dtype)})
    with pytest.raises(InputError, match=r"not a whole weights file .*'params/w' is in"):
        weights.load_weights(tmp_path / 'w.npz')


def test_a_file_of_a_later_version_is_refused(tmp_path):
    store(tmp_path / 'w.npz', {'format': 99, 'config': {}, 'extra': {}})
    with pytest.raises(InputError, match=r'w\.npz: of format 99, this version reads 1; install'):
        weights.load_weights(tmp_path / 'w.npz')


@pytest.mark.parametrize(
    'about',
    [None, [], {}, {'format': 1}, {'format': 1, 'config': 3, 'extra': {}}, {'config': {}}],
    ids=str,
)
def test_a_file_without_a_config_is_refused(tmp_path, about):
    store(tmp_path / 'w.npz', about)
    with pytest.raises(InputError, match='not a whole weights file'):
        weights.load_weights(tmp_path / 'w.npz')


def test_one_name_within_another_is_refused(tmp_path):
    about, one = {'format': 1, 'config': {}, 'extra': {}}, np.ones(1, np.float32)
    store(tmp_path / 'w.npz', about, **{'a': one, 'a/b': one})
    with pytest.raises(InputError, match='not a whole weights file'):
        weights.load_weights(tmp_path / 'w.npz')


def array(*shape, dtype='float32'):
    return types.SimpleNamespace(shape=shape, dtype=np.dtype(dtype))


@pytest.mark.parametrize(
    ('found', 'needed', 'words'),
    [
        ({}, {'w': array(2)}, "has no 'w', which this config needs"),
        ({'w': array(2)}, {}, "has 'w', which this config does not know"),
        (
            {'w': array(2, 3)},
            {'w': array(2, 4)},
            r"has 'w' of shape \[2, 3\], this .* needs \[2, 4\]",
        ),
        ({'w': array(2, dtype='int32')}, {'w': array(2)}, "has 'w' in int32, .* needs float32"),
        ({'v': array(1), 'w': array(1)}, {}, r"has 'v', .* \(and 1 more\)"),
    ],
)
def test_arrays_of_another_model_are_named_with_the_remedy(found, needed, words):
    with pytest.raises(InputError, match=f'^file x {words}.*; take another$'):
        weights.check(found, needed, 'file x', 'take another')


def test_arrays_of_the_same_model_pass():
    weights.check({'w': array(2, 3)}, {'w': array(2, 3)}, 'file x', 'take another')
