"""STM's own: a memory per object, objects that appear later, and the ways of the released code.

What its parts compute is held against the released code in tests/parity/test_stm.py.
"""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from tests.models.tiny import (
    FRAMES,
    INSIDE,
    OBJECTS,
    SIZE,
    SPEC,
    Runner,
    object_probabilities,
    soft_masks,
)
from vos_jax import recipe as configs
from vos_jax.errors import InputError
from vos_jax.models import registry
from vos_jax.models.stm.model import STM
from vos_jax.models.stm.spec import STMSpec
from vos_jax.ops import memory as memory_ops
from vos_jax.ops.cpu import switch

ENCODER = dataclasses.replace(SPEC.encoder, norm='fixed_bn')


def stm(**changes):
    return STM(STMSpec(ENCODER, 8, 8, 8, **changes))


@pytest.fixture(scope='module')
def scene():
    """The model, features of frame 2, a memory of frames 0 and 1 and an empty slot."""
    runner = Runner(stm())
    memory = runner.memory(FRAMES[:2], soft_masks(), OBJECTS, num_empty=1)
    return runner, runner.encode(FRAMES[2]), memory


@pytest.fixture(scope='module')
def prediction(scene):
    runner, features, memory = scene
    return runner.segment(features, memory, OBJECTS)


def with_noise(array, where):
    """The array with large numbers where `where` is True."""
    where = np.broadcast_to(where, array.shape)
    return np.where(where, np.random.default_rng(3).normal(0, 50, array.shape), array).astype(
        array.dtype
    )


def test_a_large_bank_is_read_in_tiles_that_never_hold_the_affinity(scene, monkeypatch):
    _, features, memory = scene
    cells = features.key[0, ..., 0].size
    assert memory.valid[:, :, 0].size * cells > 300
    for name in ('TILE_VALUES', 'CACHED_VALUES'):
        monkeypatch.setattr(memory_ops, name, 300)

    def traced(train, **changes):
        model = stm(**changes)

        def loss(key, keys, values):
            asked, bank = features.replace(key=key), memory.replace(keys=keys, values=values)
            read = model.apply({}, asked, bank, train, method='read')
            return (read**2).sum(), read

        gradient = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
        with switch.using(()):  # as on accelerators
            return jax.jit(gradient).trace(features.key, memory.keys, memory.values)

    whole, *tiled = traced(True), traced(True, train_in_tiles=True), traced(False)
    affinity = f'f32[1,{memory.valid.shape[1]},{memory.valid.shape[3]},{cells}]'
    assert affinity in str(whole.jaxpr)
    expected = whole.lower().compile()(features.key, memory.keys, memory.values)
    for one in tiled:
        assert affinity not in str(one.jaxpr)
        found = one.lower().compile()(features.key, memory.keys, memory.values)
        # Float32 sums in another order.
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)


def test_slots_in_another_order_give_the_result_in_that_order(scene, prediction):
    runner, features, _ = scene
    order, masks = [1, 2, 0], soft_masks()
    memory = runner.memory(
        FRAMES[:2], masks.replace(objects=masks.objects[:, order]), OBJECTS[order], num_empty=1
    )
    moved = runner.segment(features, memory, OBJECTS[order])
    expected = prediction.probabilities[:, [0, *(1 + slot for slot in order)]]
    np.testing.assert_allclose(moved.probabilities, expected, atol=1e-5)


def test_slots_not_in_use_change_nothing(scene, prediction):
    runner, features, memory = scene
    noisy = memory.replace(
        keys=with_noise(memory.keys, ~OBJECTS[:, None, None]),
        values=with_noise(memory.values, ~OBJECTS[:, None, None]),
    )
    found = runner.segment(features, noisy, OBJECTS)
    np.testing.assert_array_equal(found.probabilities, prediction.probabilities)
    assert not found.probabilities[:, 3].any()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-6)


def test_empty_frames_and_padding_are_not_read(scene, prediction):
    runner, features, memory = scene
    np.testing.assert_array_equal(memory.valid[0, :2, :2], np.tile(INSIDE, (2, 2, 1)))
    assert not memory.valid[0, 2].any()
    unread = ~memory.valid[..., None]
    noisy = memory.replace(
        keys=with_noise(memory.keys, unread), values=with_noise(memory.values, unread)
    )
    found = runner.segment(features, noisy, OBJECTS)
    np.testing.assert_array_equal(found.probabilities, prediction.probabilities)


def test_an_object_that_appears_reads_the_frames_from_there_on(scene):
    runner, features, memory = scene
    everyone = np.ones(3, bool)
    masks = soft_masks()
    masks = masks.replace(objects=np.concatenate([masks.objects[:, :2]] * 2, axis=1)[:, :3])
    late = runner.memory(FRAMES[1:2], jax.tree.map(lambda a: a[1:], masks), everyone)
    joined = jax.tree.map(lambda a, b: np.concatenate([a[:, :1], b], axis=1), memory, late)
    alone = jax.tree.map(lambda b: np.concatenate([b, np.zeros_like(b)], axis=1), late)
    with_past = object_probabilities(runner.segment(features, joined, everyone))
    without = object_probabilities(runner.segment(features, alone, everyone))
    np.testing.assert_allclose(with_past[2], without[2], atol=1e-5)
    assert np.abs(with_past[0] - without[0]).max() > 1e-3


def test_a_widened_entry_serves_the_known_objects_as_before(scene, prediction):
    runner, features, memory = scene
    wide = runner.model.widen(memory, 6)
    assert wide.keys.shape[2] == wide.values.shape[2] == wide.valid.shape[2] == 6
    found = runner.segment(features, wide, np.arange(6) < 2)
    np.testing.assert_allclose(found.probabilities[:, :4], prediction.probabilities, atol=1e-6)


def test_an_object_is_encoded_with_the_others_but_without_the_background(scene):
    runner, _, memory = scene
    masks = soft_masks()
    # One object alone, and beside another one: only the mask of the others differs.
    alone = runner.memory(FRAMES[:2], masks, np.array([True, False, False]))
    assert np.abs(alone.values[0, :, 0] - memory.values[0, :2, 0]).max() > 1e-3
    single = masks.replace(objects=masks.objects * np.array([1, 0, 0])[:, None, None])
    np.testing.assert_allclose(
        runner.memory(FRAMES[:2], single, OBJECTS).values[0, :, 0], alone.values[0, :, 0], atol=1e-6
    )


def test_probabilities_of_the_release_share_with_its_unused_slots():
    runner = Runner(stm(compat='release'))
    memory = runner.memory(FRAMES[:2], soft_masks(), OBJECTS)
    assert memory.valid[0, :, :2].all()  # padding is read
    found = runner.segment(runner.encode(FRAMES[2]), memory, OBJECTS)
    odds = np.exp(found.logits[0].astype(np.float64))
    total = odds.sum(axis=0) + 8 * 1e-7  # two of ten objects
    np.testing.assert_allclose(found.probabilities[0], odds / total, rtol=1e-5, atol=1e-12)
    assert found.probabilities.shape[2:] == SIZE


@pytest.mark.parametrize('is_stopped', [False, True])
def test_the_gradient_flows_through_memorised_masks_unless_stopped(is_stopped):
    runner = Runner(stm(memory_stop_gradient=is_stopped))
    masks = jax.tree.map(lambda a: a[:1], soft_masks())

    def total(objects):
        entry = runner.model.apply(
            runner.variables,
            FRAMES[:1],
            None,
            masks.replace(objects=objects),
            OBJECTS[None],
            np.zeros(1, np.int32),
            method='memorise',
        )
        return entry.values.sum()

    gradient = jax.jit(jax.grad(total))(masks.objects)
    assert gradient[:, :2].any() != is_stopped
    assert not gradient[:, 2].any()


@pytest.mark.parametrize(
    ('variant', 'kinds', 'stride'),
    [
        ('full', {'davis', 'youtube_vos'}, 16),
        ('stills', {'still_images'}, 16),
        ('both', {'still_images', 'davis', 'youtube_vos'}, 16),
        ('tiny', {'davis'}, 8),
        ('tiny_stills', {'still_images'}, 8),
    ],
)
def test_configs_build_their_model_and_read_the_data_of_their_stage(variant, kinds, stride):
    config = configs.load(f'configs/stm_resnet50.py:{variant}')
    model = registry.build(config.model)
    assert isinstance(model, STM)
    assert model.stride == stride
    settings = config.data
    assert {source.kind for source in settings.sources} == kinds
    assert settings.clip_length == 3


def test_the_published_network_has_its_number_of_parameters():
    model = registry.build(configs.load('configs/stm_resnet50.py').model)
    shapes = jax.eval_shape(
        model.init,
        jax.random.key(0),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 1, 32, 32)),
        np.ones((1, 1), bool),
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes['params'])) == 38_925_570


def test_an_unknown_way_of_the_release_is_refused():
    with pytest.raises(InputError, match="'compat' is 'exact'; one of 'contract', 'release'"):
        stm(compat='exact')
