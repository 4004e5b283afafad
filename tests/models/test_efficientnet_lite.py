import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import clip, fill, giel
from vos_jax.errors import InputError
from vos_jax.models import registry
from vos_jax.models.efficientnet_lite import LiteSpec, QueryEncoder, SupportEncoder
from vos_jax.ops import aggregation
from vos_jax.training import unroll

SIZE = (32, 48)


@pytest.fixture(scope='module')
def frames():
    return np.random.default_rng(0).standard_normal((1, *SIZE, 3)).astype(np.float32)


def variables_for(module, *inputs):
    return fill(jax.eval_shape(module.init, jax.random.key(0), *inputs))


@pytest.mark.parametrize('stride', [8, 16])
def test_features_have_the_sizes_that_the_spec_says(frames, stride):
    spec = LiteSpec(stride=stride)
    encoder = QueryEncoder(spec)
    outputs = jax.jit(encoder.apply)(variables_for(encoder, frames), frames)
    for output, step, channels in zip(
        outputs, spec.stage_strides, spec.stage_channels, strict=True
    ):
        assert output.shape == (1, SIZE[0] // step, SIZE[1] // step, channels)


def test_frozen_stages_get_no_gradient_and_the_others_do(frames):
    encoder = QueryEncoder(LiteSpec(frozen_stages=2))
    variables = variables_for(encoder, frames)

    def loss(variables):
        return sum(jnp.square(x).sum() for x in encoder.apply(variables, frames))

    gradients = jax.jit(jax.grad(loss))(variables)['params']
    for name, part in gradients.items():
        is_frozen = name == 'stem' or name.startswith(('stage1', 'stage2'))
        assert all(np.any(leaf) != is_frozen for leaf in jax.tree.leaves(part)), name


def test_the_support_encoder_without_a_mask_is_the_query_encoder(frames):
    """With equal weights: both have the first stages in common, and the mask adds to them."""
    spec = LiteSpec(stride=8)
    query, support = QueryEncoder(spec), SupportEncoder(spec)
    variables = variables_for(query, frames)
    _, r3, r4 = jax.jit(query.apply)(variables, frames)
    mask = np.zeros((1, *SIZE), np.float32)
    own = variables_for(support, r3, mask)['params']
    for name in ('mask4', 'mask5'):
        own[name]['bias'][:] = 0
    shared = {**variables['params'], **{name: own[name] for name in ('mask4', 'mask5')}}
    shared = {'params': {name: shared[name] for name in own}}
    found = jax.jit(support.apply)(shared, r3, mask)
    np.testing.assert_allclose(found, r4, atol=1e-5 * abs(r4).max())
    seen = jax.jit(support.apply)(shared, r3, mask + 1)
    assert abs(seen - r4).max() > 0.01 * abs(r4).max()


@pytest.fixture(scope='module')
def model():
    return giel(encoder=LiteSpec(stride=16), label_norm='gn')


def test_a_clip_is_segmented_and_unused_slots_stay_empty(model):
    batch = clip(batch=1, length=3, size=(40, 56), num_slots=3, num_objects=2)
    masks = np.asarray(aggregation.one_hot_masks(batch['labels'][:, 0], 3))
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), batch['frames'][:, 0], masks, batch['objects']
    )
    variables = fill(shapes)
    outputs, _ = jax.jit(
        lambda v: unroll.unroll(model, v, batch['frames'], masks, batch['objects'])
    )(variables)
    probabilities = np.asarray(jax.nn.softmax(outputs['logits'], axis=2))
    assert probabilities.shape == (1, 2, 4, 40, 56)
    assert np.isfinite(probabilities).all()
    unused = [slot + 1 for slot in range(3) if not batch['objects'][0, slot]]
    assert unused
    assert not probabilities[:, :, unused].any()


def test_objects_can_be_read_with_a_support_encoding_each(model):
    """The ablation without the instance embedding: features are repeated for every object."""
    batch = clip(batch=2, length=1, size=(32, 32), num_slots=2, num_objects=2)
    frames, objects = batch['frames'][:, 0], batch['objects']
    masks = np.asarray(aggregation.one_hot_masks(batch['labels'][:, 0], 2))
    alone = model.clone(spec=giel(encoder=LiteSpec(), use_instance=False).spec)
    variables = fill(jax.eval_shape(alone.init, jax.random.key(0), frames, masks, objects))
    prediction = jax.jit(alone.apply)(variables, frames, masks, objects)
    assert np.isfinite(prediction.probabilities).all()


def test_memory_needs_the_features_of_its_frame(model):
    assert model.memorises_features
    assert not giel().memorises_features


SETTINGS = {'name': 'giel', 'dtype': 'float32', 'label_norm': 'gn'}


def test_a_config_names_the_encoder_by_its_kind():
    encoder = {'kind': 'efficientnet_lite0', 'stride': 8, 'frozen_stages': 1}
    model = registry.build(registry.read_model({**SETTINGS, 'encoder': encoder}))
    assert model.spec.encoder == LiteSpec(stride=8, frozen_stages=1)
    assert model.stride == 8


@pytest.mark.parametrize(
    ('encoder', 'message'),
    [
        ({'kind': 'efficientnet'}, "'model.encoder.kind' is 'efficientnet'; one of 'resnet', 'eff"),
        ({'kind': 'efficientnet_lite0', 'stride': 4}, "'model.encoder.stride' is 4; one of 8, 16"),
        ({'kind': 'efficientnet_lite0', 'frozen_stages': 6}, "'model.encoder.frozen_stages' is 6"),
        ({'kind': 'efficientnet_lite0', 'scale': 0.0}, "'model.encoder.scale' is 0.0; needed: a"),
        ({'kind': 'efficientnet_lite0', 'depths': (1,)}, "'model.encoder.depths' is not a setting"),
    ],
)
def test_wrong_settings_of_the_encoder_are_refused(encoder, message):
    with pytest.raises(InputError, match=message):
        registry.build(registry.read_model({**SETTINGS, 'encoder': encoder}))


def test_stm_refuses_an_encoder_that_it_cannot_give_its_masks_to():
    settings = {'name': 'stm', 'dtype': 'float32', 'encoder': {'kind': 'efficientnet_lite0'}}
    with pytest.raises(InputError, match=r"'model\.encoder\.kind' is .*; one of 'resnet'"):
        registry.build(registry.read_model(settings))
