"""The decisions D1..D8 and the ablations: each setting changes what it says.

Models that share a part share its numbers (`tiny.variables_of`), so two settings can be compared.
"""

import functools

import jax
import numpy as np
import pytest

from tests.models.tiny import (
    FRAMES,
    GRID,
    INSIDE,
    OBJECTS,
    clip,
    giel,
    object_probabilities,
    runner,
    sigmoid,
    soft_masks,
    softmax,
    variables_of,
)
from vos_jax.models import protocol
from vos_jax.models.giel.parts import TemporalAttention
from vos_jax.models.resnet import EncoderSpec
from vos_jax.ops.memory import squared_distances

TWO = FRAMES[:2]


@pytest.fixture(scope='module')
def scene():
    """Features of frame 2 and a memory of frames 0 and 1 and an empty slot, of the full model."""
    full = runner()
    return full.encode(FRAMES[2]), full.memory(TWO, soft_masks(), OBJECTS, num_empty=1)


def parameters(**changes):
    """Names of the model's parts."""
    return set(runner(**changes).variables['params'])


# D1: the mask that the support encoder sees.


def test_d1_a_hard_support_mask_is_thresholded_at_one_half():
    masks = soft_masks()
    hard = masks.replace(foreground=(masks.foreground > 0.5).astype(np.float32))
    found = runner(support_mask='hard').support_keys(TWO, masks, OBJECTS)
    soft = runner().support_keys(TWO, masks, OBJECTS)
    np.testing.assert_allclose(found, runner().support_keys(TWO, hard, OBJECTS), atol=1e-6)
    assert abs(found - soft).max() > 1e-3


def test_d1_the_support_mask_may_be_the_aggregated_union():
    masks = soft_masks()
    union = masks.replace(foreground=masks.objects.sum(axis=1))
    found = runner(support_source='aggregated').support_keys(TWO, masks, OBJECTS)
    np.testing.assert_allclose(found, runner().support_keys(TWO, union, OBJECTS), atol=1e-6)
    assert abs(found - runner().support_keys(TWO, masks, OBJECTS)).max() > 1e-3


@pytest.mark.parametrize('stops', [False, True])
def test_d1_the_gradient_of_the_support_mask_flows_or_stops(stops):
    tiny = runner(support_stop_gradient=stops)
    masks = soft_masks(num_frames=1)

    def loss(foreground):
        entry = tiny.model.apply(
            tiny.variables,
            FRAMES[:1],
            None,
            masks.replace(foreground=foreground),
            OBJECTS[None],
            np.zeros(1, np.int32),
            method='memorise',
        )
        return (entry.keys**2).sum()

    gradient = np.asarray(jax.jit(jax.grad(loss))(masks.foreground))
    assert np.isfinite(gradient).all()
    assert (gradient != 0).mean() == 0.0 if stops else (gradient != 0).mean() > 0.5


# D3 to D5: the affinity.


def keys_of(scene):
    """Memory keys [T, P, Ck] and query keys [Q, Ck] in float64."""
    features, memory = scene
    return memory.keys[0].astype(float), np.asarray(features.key, float).reshape(-1, 8)


def product(scene):
    """[T, P, Q]"""
    keys, query = keys_of(scene)
    return np.einsum('tpc,qc->tpq', keys, query)


def over_valid(similarity, memory):
    """Softmax over the valid pixels of all frames."""
    return softmax(np.where(memory.valid[0][..., None], similarity, -np.inf), (0, 1))


def affinity(scene, **changes):
    return runner(**changes).affinity(*scene, OBJECTS)


PLAIN = {'temporal_attention': 'none'}


@pytest.mark.parametrize(('scaled', 'factor'), [(True, 8**-0.5), (False, 1.0)])
def test_d3_the_dot_product_is_divided_by_the_root_of_the_channels_or_not(scene, scaled, factor):
    expected = over_valid(factor * product(scene), scene[1])
    found = affinity(scene, **PLAIN, affinity_scale=scaled)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_d3_l2_is_the_negative_squared_distance(scene):
    keys, query = keys_of(scene)
    distances = ((keys[:, :, None] - query) ** 2).sum(axis=-1)
    found = affinity(scene, **PLAIN, affinity='l2')
    np.testing.assert_allclose(found, over_valid(-distances / np.sqrt(8), scene[1]), atol=1e-5)


def test_a_learned_temperature_is_a_factor(scene):
    tiny = runner(**PLAIN, learn_temperature=True)
    params = {**tiny.variables['params'], 'log_temperature': np.log(np.float32(3))}
    found = tiny.affinity(*scene, OBJECTS, variables={**tiny.variables, 'params': params})
    expected = over_valid(3 * product(scene) / np.sqrt(8), scene[1])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_random_walk_prefers_near_cells_and_late_frames(scene):
    tiny = runner(**PLAIN, locality='random_walk')
    params = {**tiny.variables['params'], 'log_walk': np.log(np.float32([2, 3]))}
    found = tiny.affinity(*scene, OBJECTS, time=2, variables={**tiny.variables, 'params': params})
    elapsed = np.array([2, 1, 0])[:, None, None]  # the empty slot's time counts for nothing
    distances = np.asarray(squared_distances(*GRID, np.arange(GRID[0] * GRID[1])))
    penalty = distances / (2 * (2**2 + 3**2 * elapsed))
    expected = over_valid(product(scene) / np.sqrt(8) - penalty, scene[1])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def frame_weights(scene, tiny):
    """w of the temporal attention by the module itself, from means over the valid pixels."""
    keys, query = keys_of(scene)
    means = keys[:, INSIDE].mean(axis=1)
    means[2] = 0
    module = TemporalAttention(8)
    variables = {'params': tiny.variables['params']['temporal_attention']}
    arguments = means[None].astype(np.float32), query[INSIDE].mean(axis=0)[None].astype(np.float32)
    used = np.array([[True, True, False]])
    return np.asarray(module.apply(variables, *arguments, used))[0, :, None, None].astype(float)


def test_d5_reweigh_multiplies_the_affinity_and_normalises_again(scene):
    plain = over_valid(product(scene) / np.sqrt(8), scene[1])
    weighted = plain * frame_weights(scene, runner())
    expected = weighted / weighted.sum(axis=(0, 1))
    found = affinity(scene)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(found - plain).max() > 1e-4


def test_d5_logits_multiplies_the_similarity_by_the_number_of_frames_times_the_weight(scene):
    weights = frame_weights(scene, runner(temporal_attention='logits'))
    expected = over_valid(2 * weights * product(scene) / np.sqrt(8), scene[1])
    found = affinity(scene, temporal_attention='logits')
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('apply', ['reweigh', 'logits'])
def test_d5_equal_scores_reduce_to_no_temporal_attention(scene, apply):
    tiny = runner(temporal_attention=apply)
    params = jax.tree.map(np.copy, tiny.variables['params'])
    params['temporal_attention']['dense3']['kernel'][:] = 0
    found = tiny.affinity(*scene, OBJECTS, variables={**tiny.variables, 'params': params})
    np.testing.assert_allclose(found, affinity(scene, **PLAIN), atol=1e-6)


def test_d4_projections_are_own_or_shared_and_gone_without_temporal_attention():
    own = runner().variables['params']['temporal_attention']
    shared = variables_of(giel(temporal_projection='shared'))['params']['temporal_attention']
    assert set(own) - set(shared) == {'first', 'frame', 'query'}
    assert set(shared) - set(own) == {'shared'}
    assert parameters() - parameters(**PLAIN) == {'temporal_attention'}


# D6 to D8: the instance branch.


def test_d6_strided_labels_are_kept_at_full_size():
    encoder = EncoderSpec('basic', 'small', 8, (1, 1, 1), (8, 8, 16), (2, 2, 2), norm='frozen_bn')
    cells, kernels = {}, {}
    batch = clip(size=(32, 48))
    for kind in ('area', 'strided'):
        model = giel(encoder=encoder, label_downsample=kind)
        masks = protocol.given_masks(np.zeros((1, 3, 32, 48), np.float32))
        arguments = (batch['frames'][:, 0], masks.objects, batch['objects'])
        variables = jax.eval_shape(model.init, jax.random.key(0), *arguments)
        kernels[kind] = variables['params']['label_encoder']['conv1']['kernel'].shape
        inputs = (batch['frames'][:, 0], None, masks, batch['objects'], np.zeros(1, np.int32))
        memorise = functools.partial(model.apply, method='memorise')
        entry = jax.eval_shape(memorise, variables, *inputs)
        assert entry.object_values.shape == (1, 1, 6, 3, 8)
        cells[kind] = entry.cells.shape
    assert cells == {'area': (1, 1, 3, 2, 3), 'strided': (1, 1, 3, 32, 48)}
    assert kernels == {'area': (3, 3, 3, 64), 'strided': (7, 7, 3, 64)}


def test_d7_the_coarse_head_has_its_own_width():
    coarse = variables_of(giel(variant='fast', coarse_channels=5))['params']['coarse']
    assert coarse['conv1']['kernel'].shape == (1, 1, 16, 5)
    assert coarse['conv2']['kernel'].shape == (1, 1, 5, 1)


def test_each_variant_builds_its_own_head_alone():
    assert parameters() - parameters(variant='fast') == {'instance_decoder'}
    assert parameters(variant='fast') - parameters() == {'coarse'}


def test_d8_the_full_score_may_do_without_the_global_map(scene):
    with_map = runner().segment(*scene, OBJECTS)
    without = runner(instance_uses_global=False).segment(*scene, OBJECTS)
    np.testing.assert_array_equal(without.foreground_logits, with_map.foreground_logits)
    expected = object_probabilities(without) * sigmoid(with_map.foreground_logits)
    np.testing.assert_allclose(object_probabilities(with_map)[:2], expected[:2], atol=1e-5)


# The ablations of the paper's Table 1.


def test_without_the_global_embedding_the_instance_maps_stand_alone(scene):
    found = runner(use_global=False).segment(*scene, OBJECTS)
    expected = runner(instance_uses_global=False).segment(*scene, OBJECTS)
    assert found.foreground_logits is None
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(
        found.masks().foreground, found.probabilities[:, 1:].sum(axis=1), atol=1e-6
    )
    assert parameters() - parameters(use_global=False) == {'global_decoder'}


@pytest.fixture(scope='module')
def without_instances():
    """The ablated model and a memory of one frame."""
    tiny = runner(use_instance=False)
    return tiny, tiny.memory(FRAMES[:1], soft_masks(num_frames=1), OBJECTS)


def test_without_the_instance_embedding_each_object_has_a_support_encoding(without_instances):
    tiny, memory = without_instances
    assert parameters() - set(tiny.variables['params']) == {'label_encoder'}
    masks = soft_masks(num_frames=1)
    for slot in range(3):
        as_foreground = masks.replace(foreground=masks.objects[:, slot])
        expected = runner().support_keys(FRAMES[:1], as_foreground, OBJECTS)
        np.testing.assert_allclose(memory.object_keys[0, :, :, slot], expected, atol=1e-5)


def test_without_the_instance_embedding_each_object_is_read_with_its_own_keys(
    scene, without_instances
):
    tiny, memory = without_instances
    features, _ = scene
    before = tiny.segment(features, memory, OBJECTS).logits[0]
    keys = np.array(memory.object_keys)
    keys[:, :, :, 1] *= -1
    after = tiny.segment(features, memory.replace(object_keys=keys), OBJECTS).logits[0]
    np.testing.assert_array_equal(after[1], before[1])
    assert abs(after[2] - before[2]).max() > 1e-3


def test_without_the_instance_embedding_slots_cannot_be_added_later(without_instances):
    tiny, memory = without_instances
    with pytest.raises(ValueError, match='give num_objects to start'):
        tiny.model.apply(tiny.variables, memory, 6, method='widen')
