import jax
import numpy as np
import pytest

from tests.models.tiny import fill
from vos_jax.config.read import read
from vos_jax.errors import InputError
from vos_jax.models.resnet import Block, Encoder, EncoderSpec

FRAME = jax.ShapeDtypeStruct((2, 64, 96, 3), np.float32)


def shapes_of(module, x):
    return jax.eval_shape(module.init_with_output, jax.random.key(0), x)


def test_resnet50_gives_stages_of_stride_4_8_and_16():
    spec = EncoderSpec()
    stages, _ = shapes_of(Encoder(spec), FRAME)
    assert [r.shape for r in stages] == [(2, 16, 24, 256), (2, 8, 12, 512), (2, 4, 6, 1024)]
    assert spec.stage_strides == (4, 8, 16)
    assert spec.stage_channels == (256, 512, 1024)


def test_a_small_stem_and_dilation_keep_the_features_large():
    spec = EncoderSpec('basic', 'small', 8, (1, 1, 1), (8, 8, 16), (2, 2, 1), (1, 1, 2), 'gn')
    stages, _ = shapes_of(Encoder(spec), FRAME)
    assert [r.shape[1:] for r in stages] == [(16, 24, 8), (8, 12, 8), (8, 12, 16)]
    assert spec.stage_strides == (4, 8, 8)


def test_with_frozen_norms_only_kernels_are_trained():
    _, variables = shapes_of(Encoder(EncoderSpec()), FRAME)
    names = [path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(variables['params'])]
    assert set(names) == {'kernel'}


def test_the_stride_of_a_bottleneck_is_in_its_3x3_convolution():
    # A pixel at an odd place: a 1x1 convolution of stride 2 never sees it, a 3x3 one does.
    x = np.zeros((1, 4, 4, 4), np.float32)
    x[0, 1, 1] = 1.0
    block = Block('bottleneck', 1, 2, 1, 'frozen_bn')
    variables = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes_of(block, x)[1]['params']
    )
    statistics = fill(shapes_of(block, x)[1]['batch_stats'])
    for stored in statistics.values():
        stored['bn'].update(mean=0 * stored['bn']['mean'], bias=0 * stored['bn']['bias'])
    y = block.apply({'params': variables, 'batch_stats': statistics}, x)
    assert (np.asarray(y) > 0).all()  # the 3x3 windows at (0, 0) and (2, 2) both hold (1, 1)


def test_an_injected_mask_reaches_every_stage_at_once():
    spec = EncoderSpec('basic', 'small', 8, (1, 1, 1), (8, 8, 8), (2, 2, 1))
    x = np.zeros((2, 16, 16, 4), np.float32)
    x[1, :8, :8, 3] = 1.0
    module = Encoder(spec, inject_mask=True)
    variables = fill(shapes_of(module, x)[1])
    # Deaf stem: what differs came through the injections.
    variables['params']['conv1']['kernel'][:] = 0
    for number in (2, 3):
        variables['params'][f'mask{number}']['kernel'][:] = 0
    r2, r3, r4 = jax.jit(module.apply)(variables, x)
    # Not equal to the last bit: a convolution may sum the samples of a batch in different orders.
    np.testing.assert_allclose(r2[0], r2[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(r3[0], r3[1], rtol=1e-5, atol=1e-6)
    assert abs(r4[1] - r4[0]).max() > 0.1


def test_batch_norm_of_an_encoder_learns_statistics_in_training_only():
    spec = EncoderSpec('basic', 'small', 8, (1, 1, 1), (8, 8, 8), (2, 2, 1), norm='bn')
    module = Encoder(spec)
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 3), np.float32)
    variables = fill(shapes_of(module, x)[1])
    run = jax.jit(
        lambda v, x, train: module.apply(v, x, train, mutable=['batch_stats'])[1]['batch_stats'],
        static_argnums=2,
    )
    before = variables['batch_stats']
    jax.tree.map(np.testing.assert_array_equal, run(variables, x, False), before)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), run(variables, x, True), before)
    assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'norm': 'batch'}, "'model.encoder.norm' is 'batch'; one of 'frozen_bn', 'fixed_bn'"),
        ({'block': 'wide'}, "'model.encoder.block' is 'wide'; one of 'bottleneck', 'basic'"),
        ({'depths': (3, 4)}, r"'model.encoder.depths' is \(3, 4\); needed: 3 values, each a whole"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, line):
    with pytest.raises(InputError, match=line):
        read(EncoderSpec, changes, 'model.encoder')
