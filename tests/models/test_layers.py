import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.models.tiny import fill
from vos_jax import weights
from vos_jax.models import layers


def variables_of(module, *arguments):
    return fill(jax.eval_shape(module.init, jax.random.key(0), *arguments))


def convolved(x, kernel, stride=1):
    same = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(same, same)] * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def test_a_1x1_convolution_is_a_convolution(rng):
    x = rng.standard_normal((2, 6, 5, 3), np.float32)
    module = layers.Conv(4, 1, stride=2)
    variables = variables_of(module, x)
    kernel, bias = variables['params']['kernel'], variables['params']['bias']
    assert kernel.shape == (1, 1, 3, 4)
    expected = jax.jit(convolved, static_argnums=2)(x, kernel, 2) + bias
    np.testing.assert_allclose(jax.jit(module.apply)(variables, x), expected, atol=1e-5)


def test_convolving_the_parts_is_convolving_the_concatenation(rng):
    shared = rng.standard_normal((2, 4, 5, 3), np.float32)
    own = rng.standard_normal((2, 3, 4, 5, 2), np.float32)
    module = layers.ConcatConv(4)
    variables = variables_of(module, shared, own)
    kernel, bias = variables['params']['kernel'], variables['params']['bias']
    repeated = np.broadcast_to(shared[:, None], (2, 3, 4, 5, 3))
    joined = np.concatenate([repeated, own], axis=-1).reshape(6, 4, 5, 5)
    expected = np.asarray(jax.jit(convolved)(joined, kernel) + bias).reshape(2, 3, 4, 5, 4)
    np.testing.assert_allclose(jax.jit(module.apply)(variables, shared, own), expected, atol=1e-5)


def test_frozen_batch_norm_worked_out_by_hand():
    constants = {'scale': 3.0, 'bias': 1.0, 'mean': 5.0, 'var': 4.0}
    statistics = {name: np.full(1, value, np.float32) for name, value in constants.items()}
    module = layers.Norm('frozen_bn')
    x = np.array([5.0, 7.0], np.float32).reshape(1, 1, 2, 1)
    y, updated = module.apply(
        {'batch_stats': {'bn': statistics}}, x, train=True, mutable=['batch_stats']
    )
    np.testing.assert_allclose(np.ravel(y), [1.0, 4.0], rtol=1e-5)
    assert updated['batch_stats']['bn'] == statistics  # in training too


def test_what_each_norm_trains_and_what_it_stores():
    x = np.zeros((1, 2, 2, 8), np.float32)
    found = {}
    for kind in layers.NORMS:
        variables = variables_of(layers.Norm(kind), x)
        found[kind] = tuple(
            sorted(set().union(*variables.get(group, {}).values()))
            for group in ('params', 'batch_stats')
        )
    assert found == {
        'frozen_bn': ([], ['bias', 'mean', 'scale', 'var']),
        'fixed_bn': (['bias', 'scale'], ['mean', 'var']),
        'bn': (['bias', 'scale'], ['mean', 'var']),
        'gn': (['bias', 'scale'], []),
    }


def test_masked_rows_stay_out_of_the_batch_statistics(rng):
    x = rng.standard_normal((3, 2, 2, 8), np.float32)
    module = layers.Norm('bn')
    variables = variables_of(module, x)
    counted = np.array([True, False, True]).reshape(3, 1, 1, 1)
    _, updated = module.apply(variables, x, train=True, mask=counted, mutable=['batch_stats'])
    before, after = variables['batch_stats']['bn'], updated['batch_stats']['bn']
    rows = x[[0, 2]].reshape(-1, 8).astype(np.float64)
    for name, batch in (('mean', rows.mean(axis=0)), ('var', rows.var(axis=0))):
        np.testing.assert_allclose(after[name], 0.9 * before[name] + 0.1 * batch, atol=1e-6)


def test_norms_compute_statistics_in_float32():
    # Values 256 and 258 in bfloat16: their mean 257 does not exist there.
    x = jnp.array([256.0, 258.0], jnp.bfloat16).reshape(1, 1, 2, 1)
    module = layers.Norm('gn', groups=1)
    parameters = {'gn': {'scale': np.ones(1, np.float32), 'bias': np.zeros(1, np.float32)}}
    y = module.apply({'params': parameters}, x)
    assert y.dtype == jnp.bfloat16
    assert np.ravel(y).tolist() == [-1.0, 1.0]


def test_a_residual_block_adds_to_its_raw_input():
    x = np.array([-2.0, 3.0], np.float32).reshape(1, 1, 2, 1)
    centre = np.zeros((3, 3, 1, 1), np.float32)
    centre[1, 1] = 1.0
    one = {'kernel': centre, 'bias': np.array([0.5], np.float32)}
    y = layers.ResBlock(1).apply({'params': {'conv1': one, 'conv2': one}}, x)
    # -2 -> relu 0 -> 0.5 -> 1.0; 3 -> 3.5 -> 4.0; no ReLU on the shortcut.
    assert np.ravel(y).tolist() == [-1.0, 7.0]


def conv_then_norm(kind):
    """A convolution and its norm, named as in the encoders."""

    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x, train=False, folds=True):
            conv = layers.Conv(5, dtype=x.dtype, name='conv1', use_bias=False)
            norm = layers.Norm(kind, name='norm1')
            return norm(x, train=train, of=conv) if folds else norm(conv(x), train=train)

    return Pair()


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('kind', ['frozen_bn', 'fixed_bn'])
def test_a_norm_of_a_convolution_is_that_of_its_result(rng, kind, train):
    x, module = rng.standard_normal((2, 4, 5, 3), np.float32), conv_then_norm(kind)
    variables = variables_of(module, x)
    expected = module.apply(variables, x, train, folds=False)
    np.testing.assert_allclose(module.apply(variables, x, train), expected, atol=1e-5)


@pytest.mark.parametrize('kind', ['frozen_bn', 'fixed_bn', 'bn'])
def test_folded_variables_give_the_same_and_have_a_kernel_and_a_bias(rng, kind):
    x, module = rng.standard_normal((2, 4, 5, 3), np.float32), conv_then_norm(kind)
    variables = variables_of(module, x)
    folded = layers.fold(variables)
    assert set(weights.named(folded)) == {'params/conv1/kernel', 'params/conv1/bias'}
    expected = module.apply(variables, x)
    np.testing.assert_allclose(module.apply(folded, x), expected, atol=1e-5)


def test_variables_without_stored_statistics_stay_what_they_are(rng):
    variables = variables_of(layers.Norm('gn'), np.zeros((1, 2, 2, 8), np.float32))
    assert layers.fold(variables) is variables
