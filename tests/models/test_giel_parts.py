import jax
import numpy as np
import pytest

from tests.models.tiny import fill, softmax
from vos_jax.models.giel.parts import CoarseHead, LabelEncoder, TemporalAttention

USED = np.array([[True, True, True], [True, True, False]])


@pytest.fixture
def means(rng):
    """Mean keys of the memory frames and of the query: [B, T, Ck], [B, Ck]."""
    return rng.standard_normal((2, 3, 4), np.float32), rng.standard_normal((2, 4), np.float32)


def attention(projection='own', ends_in_zeros=False):
    """Weights as a function of the means, and the parameters."""
    module = TemporalAttention(4, projection)
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), np.zeros((2, 3, 4)), np.zeros((2, 4)), USED
    )
    variables = fill(shapes)
    if ends_in_zeros:
        variables['params']['dense3']['kernel'][:] = 0
    apply = jax.jit(module.apply)
    return lambda *arguments: np.asarray(apply(variables, *arguments)), variables['params']


def test_the_frame_weights_are_those_of_the_small_network(means):
    weigh, p = attention()

    def dense(name, x):
        return x @ p[name]['kernel'].astype(np.float64) + p[name]['bias']

    frames, query = means
    first = np.broadcast_to(dense('first', frames[:, :1]), frames.shape)
    last = np.broadcast_to(dense('query', query[:, None]), frames.shape)
    x = np.concatenate([first, dense('frame', frames), last], axis=-1)
    x = np.maximum(dense('dense2', np.maximum(dense('dense1', x), 0)), 0)
    expected = softmax(np.where(USED, dense('dense3', x)[..., 0], -np.inf), 1)
    np.testing.assert_allclose(weigh(*means, USED), expected, atol=1e-6)
    assert np.ptp(expected[0]) > 0.01


def test_empty_slots_weigh_exactly_nothing(means):
    weights = attention()[0](*means, USED)
    assert weights[1, 2] == 0
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)


def test_it_starts_with_equal_weights(means):
    weights = attention(ends_in_zeros=True)[0](*means, USED)
    np.testing.assert_allclose(weights, [[1 / 3] * 3, [1 / 2, 1 / 2, 0]], atol=1e-7)


def test_training_starts_from_equal_weights():
    module = TemporalAttention(4)
    arguments = np.zeros((1, 2, 4)), np.zeros((1, 4)), USED[:1, :2]
    variables = jax.jit(module.init)(jax.random.key(0), *arguments)
    assert (variables['params']['dense3']['kernel'] == 0).all()


def test_shared_projections_are_one_layer(means):
    weigh, parameters = attention('shared')
    assert set(parameters) == {'shared', 'dense1', 'dense2', 'dense3'}
    np.testing.assert_allclose(weigh(*means, USED).sum(axis=1), 1.0, atol=1e-6)


CELLS = np.array([[[0.5, 0.0]], [[0.25, 1.0]], [[0.0, 0.0]]], np.float32)[None]  # [1, 3, 1, 2]
CHANNELS = {
    'object': CELLS,
    'other objects': CELLS.sum(axis=1, keepdims=True) - CELLS,
    'background': np.broadcast_to(1 - CELLS.sum(axis=1, keepdims=True), CELLS.shape),
}


@pytest.mark.parametrize('channel', range(3), ids=CHANNELS.keys())
def test_the_label_encoder_sees_the_object_the_others_and_the_background(channel):
    # Kernels that hand one input channel through: the code is that channel.
    module = LabelEncoder(8, 'area', 'frozen_bn')
    used = np.array([[True, True, False]])
    shapes = jax.eval_shape(module.init, jax.random.key(0), CELLS, used)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    for norm in variables['batch_stats'].values():
        norm['bn']['scale'][:] = norm['bn']['var'][:] = 1.0
    variables['params']['conv1']['kernel'][1, 1, channel, 0] = 1.0
    variables['params']['conv2']['kernel'][1, 1, 0, 0] = 1.0
    codes = np.asarray(jax.jit(module.apply)(variables, CELLS, used))
    assert codes.shape == (1, 3, 1, 2, 8)
    expected = list(CHANNELS.values())[channel]
    np.testing.assert_allclose(codes[..., 0], expected, atol=1e-4)  # epsilon 1e-5, twice


def test_the_strided_label_encoder_reads_whole_masks_at_stride_16():
    module = LabelEncoder(8, 'strided', 'bn')
    masks = jax.ShapeDtypeStruct((2, 3, 32, 48), np.float32)
    used = jax.ShapeDtypeStruct((2, 3), bool)
    codes, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), masks, used)
    assert codes.shape == (2, 3, 2, 3, 8)
    assert variables['params']['conv1']['kernel'].shape == (7, 7, 3, 64)
    whole = np.zeros((1, 1, 32, 48), np.float32)
    assert module.prepare(whole, 16) is whole


def test_unused_slots_stay_out_of_the_label_encoders_statistics(rng):
    module = LabelEncoder(8, 'area', 'bn')
    cells = rng.uniform(size=(2, 3, 4, 5)).astype(np.float32)
    cells[:, 2] = 0
    used = np.array([[True, True, False]] * 2)

    @jax.jit
    def statistics(variables, cells, used):
        return module.apply(variables, cells, used, True, mutable=['batch_stats'])[1]

    variables = fill(jax.eval_shape(module.init, jax.random.key(0), cells, used))
    alone = statistics(variables, cells[:, :2], used[:, :2])
    beside = statistics(variables, cells, used)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, beside)


def test_batch_norm_replaces_the_bias_of_the_label_encoder():
    shapes = {
        norm: jax.eval_shape(
            LabelEncoder(8, 'area', norm).init, jax.random.key(0), CELLS, np.ones((1, 3), bool)
        )
        for norm in ('bn', 'gn')
    }
    assert set(shapes['bn']['params']['conv1']) == {'kernel'}
    assert set(shapes['gn']['params']['conv1']) == {'kernel', 'bias'}


def test_the_coarse_head_is_two_layers_on_both_values(rng):
    value = rng.standard_normal((2, 3, 4, 5), np.float32)
    read = rng.standard_normal((2, 2, 3, 4, 5), np.float32)
    module = CoarseHead(6)
    variables = fill(jax.eval_shape(module.init, jax.random.key(0), value, read))
    p = variables['params']
    both = np.concatenate([np.broadcast_to(value[:, None], read.shape), read], axis=-1)
    hidden = np.maximum(both @ p['conv1']['kernel'][0, 0] + p['conv1']['bias'], 0)
    expected = hidden @ p['conv2']['kernel'][0, 0] + p['conv2']['bias']
    assert p['conv1']['kernel'].shape == (1, 1, 10, 6)
    np.testing.assert_allclose(jax.jit(module.apply)(variables, value, read), expected, atol=1e-5)
