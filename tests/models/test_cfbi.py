"""CFBI on a narrow backbone: the contract, its slots and frames, and its ablations."""

import functools
import re
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import fill, masks_of
from tests.models.tiny_cfbi import SIZE, SLOTS, SPEC, build, shapes_of
from vos_jax import weights
from vos_jax.config import plain
from vos_jax.errors import InputError
from vos_jax.models import protocol, registry
from vos_jax.models.cfbi.model import CFBI
from vos_jax.models.cfbi.spec import LiteDeepLabSpec, network_size
from vos_jax.training import unroll


class Clip:
    """Four frames of noise with two moving rectangles: two given, one predicted, one to segment."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.frames = rng.integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
        self.labels = np.zeros((3, *SIZE), np.uint8)
        for time in range(3):
            self.labels[time, 4 + time : 20, 5:20] = 1
            self.labels[time, 8 : 25 - time, 28:44] = 2
        self.given = (True, True, False)
        self.objects = np.array([[True, True, False]])


CLIP = Clip()


@functools.cache
def encoded():
    """Variables and the features of the frames."""
    model = build()
    variables = fill(shapes_of(model))
    apply = functools.partial(model.apply, method='encode')
    return variables, jax.jit(apply)(variables, CLIP.frames)


def features(index):
    return jax.tree.map(lambda a: a[index : index + 1], encoded()[1])


def entry(time, labels=None, order=(0, 1, 2), position=None):
    """Memory entry of a frame; slot i holds object `order[i]`."""
    variables = encoded()[0]
    labels = CLIP.labels[time] if labels is None else labels
    masks = protocol.given_masks(jnp.asarray(masks_of(labels, SLOTS))[None, np.array(order)])
    masks = masks.replace(given=jnp.full(1, CLIP.given[time]))
    number = jnp.full(1, time if position is None else position)
    objects = CLIP.objects[:, np.array(order)]
    rest = (features(time), masks, objects, number)
    return build().apply(variables, None, *rest, method='memorise')


@functools.cache
def compiled(model):
    return jax.jit(functools.partial(model.apply, method='segment'))


def segment(entries, objects=CLIP.objects, model=None, variables=None, num_frames=4):
    """Prediction for the last frame. Empty ones fill the memory: all share a compilation."""
    empty = [jax.tree.map(jnp.zeros_like, entry(0))] * (num_frames - len(entries))
    memory = protocol.assemble([*entries, *empty])
    variables = encoded()[0] if variables is None else variables
    run = compiled(model or build())
    return run(variables, features(3), memory, objects, jnp.full(1, 3))


@functools.cache
def segmented():
    return np.asarray(segment([entry(t) for t in range(3)]).probabilities)


def close(found, expected):
    # Float32 sums in another order.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_probabilities_have_the_frames_size_and_sum_to_one():
    probabilities = segmented()
    assert probabilities.shape == (1, SLOTS + 1, *SIZE)
    close(probabilities.sum(axis=1), 1.0)
    assert (probabilities[:, 3] == 0).all()
    assert probabilities[:, :3].std() > 0.01  # not all the same


def test_permuted_slots_permute_the_result():
    order = (2, 0, 1)  # slot 0 is empty
    entries = [entry(t, order=order) for t in range(3)]
    found = segment(entries, CLIP.objects[:, np.array(order)]).probabilities
    close(found, segmented()[:, [0, 3, 1, 2]])


def test_fewer_empty_slots_change_nothing():
    found = segment([entry(t) for t in range(3)], CLIP.objects[:, :2]).probabilities
    close(found, segmented()[:, :3])


def test_empty_frames_change_nothing():
    found = segment([entry(t) for t in range(3)], num_frames=3).probabilities
    close(found, segmented())


def test_the_order_of_the_frames_in_memory_changes_nothing():
    close(segment([entry(2), entry(0), entry(1)]).probabilities, segmented())


def test_predicted_frames_before_the_previous_one_are_not_read():
    old = entry(2, labels=CLIP.labels[2] * 0, position=1)
    expected = segment([entry(0), entry(2)]).probabilities
    close(segment([entry(0), old, entry(2)]).probabilities, expected)


def test_each_given_frame_is_a_reference():
    other = np.roll(CLIP.labels[1], 9, axis=1)
    found = segment([entry(0), entry(1, labels=other), entry(2)]).probabilities
    assert np.abs(found - segmented()).max() > 1e-3


def test_soft_masks_are_memorised_as_the_most_probable_slot():
    hard = masks_of(CLIP.labels[2], SLOTS)
    soft = np.where(hard > 0, 0.6, 0.15).astype(np.float32)
    soft[:, CLIP.labels[2] == 0] = 0.2  # background 0.4
    soft[2] = 0.0  # not in use
    masks = protocol.Masks(soft[None], soft.max(axis=0)[None], np.zeros(1, bool))
    rest = (features(2), masks, CLIP.objects, jnp.full(1, 2))
    found = build().apply(encoded()[0], None, *rest, method='memorise')
    np.testing.assert_array_equal(found.labels, entry(2).labels)


def test_without_objects_everything_is_background():
    nothing = np.zeros((1, SLOTS), bool)
    probabilities = segment([entry(0), entry(2)], nothing).probabilities
    np.testing.assert_array_equal(probabilities[:, 0], 1.0)


@pytest.mark.long
def test_every_parameter_gets_a_gradient():
    model, variables = build(), encoded()[0]
    masks = jnp.asarray(masks_of(CLIP.labels[:1], SLOTS))

    def loss(params):
        logits = model.apply({'params': params}, CLIP.frames[:1], masks, CLIP.objects).logits
        weight = jnp.linspace(0.0, 1.0, logits[:, :3].size).reshape(1, 3, *SIZE)
        return (jax.nn.log_softmax(logits[:, :3], axis=1) * weight).mean()

    gradients = weights.named(jax.jit(jax.grad(loss))(variables['params']))
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert {name for name, gradient in gradients.items() if not np.any(gradient)} == set()


def unrolled(model, **settings):
    """Logits of the last frame of a clip: reference, previous frame with its true mask, current."""
    order = [0, 2, 3]
    labels = np.stack([CLIP.labels[0], CLIP.labels[2], CLIP.labels[0]])[None]
    given = jnp.asarray(masks_of(labels[:, 0], SLOTS))

    def run(variables, key):
        outputs, _ = unroll.unroll(
            model,
            variables,
            CLIP.frames[None, order],
            given,
            CLIP.objects,
            unroll.Unrolling(predict_from=2),
            teacher=unroll.Teacher(labels),
            dropout=key,
            **settings,
        )
        assert outputs['logits'].shape[1] == 1
        return outputs['logits'][:, 0]

    return jax.jit(run)


def test_the_previous_frame_of_a_clip_is_seen_with_its_true_mask_and_is_no_reference():
    found = unrolled(build())(encoded()[0], None)
    expected = segment([entry(0), entry(2)]).probabilities
    # Encoding and segmenting compiled as one: sums in another order, twice.
    np.testing.assert_allclose(jax.nn.softmax(found, axis=1), expected, atol=1e-4)


def test_dropout_is_active_in_training():
    run = unrolled(build(), train=True)
    first, other, again = (run(encoded()[0], jax.random.key(i)) for i in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[:, :3].max() > 1e-3


def test_the_channel_order_is_that_of_the_setting():
    encode = jax.jit(functools.partial(build(channel_order='rgb').apply, method='encode'))
    found = encode(encoded()[0], CLIP.frames[:1, ..., ::-1])
    close(found.embedding, features(0).embedding)


def test_bfloat16_stays_near_float32():
    encode = jax.jit(functools.partial(CFBI(SPEC, jnp.bfloat16).apply, method='encode'))
    found = encode(encoded()[0], CLIP.frames[:1])
    assert found.embedding.dtype == jnp.float32
    assert found.low.dtype == jnp.bfloat16
    # Eight significant bits through ten layers, norms between them; values are about 1.
    assert np.abs(found.embedding - features(0).embedding).mean() < 0.05


@pytest.mark.parametrize(
    ('size', 'max_edge', 'scale', 'expected'),
    [
        ((480, 854), 1040, 1.0, (481, 849)),
        ((129, 193), 1040, 1.0, (129, 193)),
        ((113, 200), 1040, 1.0, (113, 193)),
        ((120, 214), 161, 1.0, (97, 161)),
        ((129, 193), 161, 1.0, (113, 161)),
        ((720, 1280), 1040, 1.0, (577, 1041)),
        ((480, 854), 800, 1.3, (577, 1041)),
        ((480, 854), 800, 1.5, (673, 1201)),
    ],
)
def test_frames_are_seen_at_the_released_sizes(size, max_edge, scale, expected):
    assert network_size(size, max_edge, scale) == expected


# Of Tables 4 and 5: settings, and the parameters that may differ from those of the full model.
ABLATIONS = {
    'no matching background': (dict(matching_background=False), r'prehead/kernel'),
    'no attention background': (
        dict(attention_background=False),
        r'head/gate\d+/linear/dense/kernel|output/(fore|back)ground/dense/kernel',
    ),
    'no distance biases': (dict(distance_bias=False), r'(fore|back)ground_bias'),
    'one local window': (dict(windows=(2,)), r'prehead/kernel'),
    'no ensembler': (dict(head='separable'), r'head/.*'),
    'no instance attention': (
        dict(instance_attention=False),
        r'head/gate\d+/.*|output/.*',
    ),
}


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_changes_what_it_says_and_nothing_else(name):
    settings, allowed = ABLATIONS[name]
    full = {k: v.shape for k, v in weights.named(shapes_of(build())['params']).items()}
    found = {k: v.shape for k, v in weights.named(shapes_of(build(**settings))['params']).items()}
    changed = {k for k in full.keys() | found.keys() if full.get(k) != found.get(k)}
    assert changed
    assert [k for k in changed if not re.fullmatch(allowed, k)] == []


def test_without_background_the_prehead_sees_the_foreground_maps_and_the_mask():
    shapes = shapes_of(build(matching_background=False))['params']
    assert shapes['prehead']['kernel'].shape == (1, 1, 1 + 2 + 1, 8)
    shapes = shapes_of(build())['params']
    assert shapes['prehead']['kernel'].shape == (1, 1, 2 * (1 + 2) + 1, 8)


@pytest.mark.parametrize('head', ['ensembler', 'separable'])
def test_the_feelvos_baseline_segments(head):
    """All ablations together; with the ensembler, all but its own."""
    model = build(
        matching_background=False,
        attention_background=False,
        distance_bias=False,
        instance_attention=False,
        windows=(2,),
        head=head,
    )
    variables = fill(shapes_of(model))
    found = segment([entry(0), entry(2)], model=model, variables=variables).probabilities
    close(found.sum(axis=1), 1.0)
    assert found[:, :3].std() > 0.01


def test_equal_biases_are_what_no_biases_means():
    variables = jax.tree.map(lambda a: a, encoded()[0])
    variables['params'] |= dict(background_bias=np.float32(0), foreground_bias=np.float32(0))
    expected = segment([entry(0), entry(2)], variables=variables).probabilities
    model = build(distance_bias=False)
    found = segment([entry(0), entry(2)], model=model, variables=variables).probabilities
    close(found, expected)


def test_unknown_choices_are_refused():
    with pytest.raises(InputError, match="'head' is 'none'; one of 'ensembler'"):
        build(head='none')
    with pytest.raises(InputError, match="'windows' is "):
        build(windows=())


def test_a_lite_encoder_has_the_grid_of_the_resnet_and_trains_its_last_stages():
    lite = LiteDeepLabSpec(channels=16, low_channels=8, norm='gn')
    model = build(backbone=lite)
    variables = fill(shapes_of(model))
    masks = jnp.asarray(masks_of(CLIP.labels[:1], SLOTS))

    def loss(params):
        found = model.apply({'params': params}, CLIP.frames[:1], masks, CLIP.objects)
        return jnp.square(found.probabilities).sum()

    encode = functools.partial(model.apply, method='encode')
    found = jax.eval_shape(encode, variables, CLIP.frames[:1])
    assert found.embedding.shape == features(0).embedding.shape == (1, 9, 13, 6)
    gradients = jax.jit(jax.grad(loss))(variables['params'])['query_encoder']
    for name, part in gradients.items():
        is_frozen = name == 'stem' or name.startswith(('stage1', 'stage2', 'stage3'))
        assert all(np.any(leaf) != is_frozen for leaf in jax.tree.leaves(part)), name


CONFIG = runpy.run_path(str(Path(__file__).parents[2] / 'configs' / 'cfbi_resnet101.py'))


@pytest.mark.parametrize('variant', CONFIG['ABLATIONS'])
def test_a_variant_changes_the_settings_it_names_and_no_other(variant):
    full, found = (
        plain.flatten(registry.read_config(CONFIG['get_config'](name)))
        for name in ('full', variant)
    )
    changed = {name: found[name] for name in found if found[name] != full[name]}
    assert changed == CONFIG['ABLATIONS'][variant]
    assert found.keys() == full.keys()
