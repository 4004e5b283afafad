"""The model as a whole: its contract with slots, memory and padding, and its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny import (
    FRAMES,
    GRID,
    INSIDE,
    OBJECTS,
    SIZE,
    SPEC,
    STRIDE,
    Runner,
    giel,
    object_probabilities,
    runner,
    sigmoid,
    soft_masks,
    variables_of,
)
from vos_jax.models import protocol
from vos_jax.models.decoder import Decoder
from vos_jax.models.giel.model import GIEL
from vos_jax.models.giel.parts import CoarseHead, LabelEncoder
from vos_jax.ops.grid import Grid


@pytest.fixture(scope='module')
def scene():
    """The full model, features of frame 2, a memory of frames 0 and 1 and an empty slot."""
    full = runner()
    memory = full.memory(FRAMES[:2], soft_masks(), OBJECTS, num_empty=1)
    return full, full.encode(FRAMES[2]), memory


@pytest.fixture(scope='module')
def prediction(scene):
    full, features, memory = scene
    return full.segment(features, memory, OBJECTS)


def with_noise(array, where):
    """A copy with large numbers at `where`, a mask over the first axes."""
    array = np.array(array)
    array[where] = 100 * np.random.default_rng(1).standard_normal(array[where].shape)
    return array


def to_image(maps):
    """[K, h, w] -> [K, H, W]: bilinear to the padded size, then cropped."""
    shape = (len(maps), GRID[0] * STRIDE, GRID[1] * STRIDE)
    large = jax.image.resize(np.asarray(maps, np.float32), shape, 'bilinear', antialias=False)
    return np.asarray(large)[:, : SIZE[0], : SIZE[1]]


def part(module, name, *arguments):
    """Applies a part of the model by itself, with the model's parameters."""
    variables = runner(**({'variant': 'fast'} if name == 'coarse' else {})).variables
    own = {group: tree[name] for group, tree in variables.items() if name in tree}
    return np.asarray(jax.jit(module.apply)(own, *arguments))


def test_the_probabilities_are_a_distribution_over_the_slots_in_use(prediction):
    assert prediction.probabilities.shape == (1, 4, *SIZE)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert (prediction.probabilities[:, 3] == 0).all()
    assert np.ptp(prediction.probabilities[:, 1]) > 0.05


def test_permuted_slots_permute_the_result(scene, prediction):
    full, features, _ = scene
    order = [2, 0, 1]
    masks = soft_masks()
    masks = masks.replace(objects=masks.objects[:, order])
    memory = full.memory(FRAMES[:2], masks, OBJECTS[order], num_empty=1)
    permuted = full.segment(features, memory, OBJECTS[order])
    np.testing.assert_allclose(
        permuted.probabilities[:, 1:], prediction.probabilities[:, 1:][:, order], atol=1e-6
    )
    np.testing.assert_allclose(permuted.foreground_logits, prediction.foreground_logits, atol=1e-5)


def test_empty_slots_change_nothing(scene, prediction):
    full, features, _ = scene
    memory = full.memory(FRAMES[:2], soft_masks(2), OBJECTS[:2], num_empty=1)
    alone = full.segment(features, memory, OBJECTS[:2])
    np.testing.assert_allclose(prediction.probabilities[:, :3], alone.probabilities, atol=1e-6)


def test_masks_of_unused_slots_are_not_read(scene):
    full, _, memory = scene
    masks = soft_masks()
    masks.objects[:, 2] = 0.9
    haunted = full.memory(FRAMES[:2], masks, OBJECTS, num_empty=1)
    jax.tree.map(np.testing.assert_array_equal, haunted, memory)


def test_empty_memory_slots_change_nothing(scene, prediction):
    full, features, memory = scene
    empty = np.zeros((1, 3), bool)
    empty[:, 2] = True
    haunted = memory.replace(
        keys=with_noise(memory.keys, empty),
        values=with_noise(memory.values, empty),
        object_values=with_noise(memory.object_values, empty),
    )
    result = full.segment(features, haunted, OBJECTS)
    np.testing.assert_array_equal(result.probabilities, prediction.probabilities)
    assert (result.affinity[:, 2] == 0).all()


def test_cells_are_valid_where_their_centre_is_image(scene):
    _, _, memory = scene
    np.testing.assert_array_equal(memory.valid, [[INSIDE, INSIDE, 0 * INSIDE]])


def test_an_image_smaller_than_half_a_cell_still_has_one():
    tiny = runner()
    frame = np.zeros((1, 3, 11, 3), np.uint8)
    masks = protocol.given_masks(np.zeros((1, 1, 3, 11), np.float32))
    arguments = (frame, None, masks, np.ones((1, 1), bool), np.zeros(1, np.int32))
    valid = jax.jit(lambda v: tiny.model.apply(v, *arguments, method='memorise').valid)
    np.testing.assert_array_equal(valid(tiny.variables), [[[True, False]]])


def test_padding_has_no_influence(scene, prediction):
    full, features, memory = scene
    padding = np.broadcast_to(~INSIDE, (1, 3, INSIDE.size))
    haunted = memory.replace(
        keys=with_noise(memory.keys, padding),
        values=with_noise(memory.values, padding),
        object_values=with_noise(memory.object_values, padding),
    )
    result = full.segment(features, haunted, OBJECTS)
    np.testing.assert_array_equal(result.probabilities, prediction.probabilities)
    assert (prediction.affinity[~np.broadcast_to(memory.valid, (1, 3, 12))] == 0).all()


def test_padded_cells_of_the_query_do_not_weigh_the_frames(scene):
    full, features, memory = scene
    padding = np.broadcast_to(~INSIDE.reshape(1, *GRID), (1, *GRID))
    other = features.replace(key=with_noise(features.key, padding))
    expected = full.affinity(features, memory, OBJECTS)[:, :, INSIDE]
    found = full.affinity(other, memory, OBJECTS)[:, :, INSIDE]
    np.testing.assert_array_equal(found, expected)


def test_object_values_are_label_codes_times_values(scene):  # Eqs. 7 and 8
    _, _, memory = scene
    masks = Grid(SIZE, STRIDE).pad(soft_masks().objects, (2, 3))
    cells = np.asarray(masks).reshape(2, 3, GRID[0], STRIDE, GRID[1], STRIDE).mean(axis=(3, 5))
    used = np.repeat(OBJECTS[None], 2, axis=0)
    codes = part(LabelEncoder(8, 'area', 'bn'), 'label_encoder', cells, used)
    codes = np.moveaxis(codes.reshape(2, 3, 12, 8), 1, 2)  # [T, P, K, Cv]
    expected = codes * memory.values[0, :2, :, None]
    np.testing.assert_allclose(memory.object_values[0, :2], expected, atol=1e-5)


def test_the_global_map_is_decoded_from_the_class_agnostic_read(scene, prediction):  # Eqs. 5, 6
    _, features, memory = scene
    read = np.einsum('tpq,tpc->qc', prediction.affinity[0], memory.values[0])
    decoded = part(
        Decoder(8),
        'global_decoder',
        features.value,
        read.reshape(1, 1, *GRID, 8).astype(np.float32),
        features.r3,
        features.r2,
    )
    np.testing.assert_allclose(
        prediction.foreground_logits, to_image(decoded[0, ..., 0]), atol=1e-4
    )


def instance_reads(prediction, memory):
    """[1, K, h, w, Cv] (Eq. 9)."""
    read = np.einsum('tpq,tpkc->kqc', prediction.affinity[0], memory.object_values[0])
    return read.reshape(1, 3, *GRID, 8).astype(np.float32)


def test_a_full_score_is_the_decoded_read_times_the_global_map(scene, prediction):  # Eq. 12
    _, features, memory = scene
    read = instance_reads(prediction, memory)
    decoded = part(Decoder(8), 'instance_decoder', features.value, read, features.r3, features.r2)
    scores = sigmoid(to_image(decoded[0, ..., 0])) * sigmoid(prediction.foreground_logits)
    np.testing.assert_allclose(object_probabilities(prediction)[:2], scores[:2], atol=1e-5)


def test_a_fast_score_is_the_upsampled_coarse_map_times_the_global_map(scene):  # Eqs. 10, 11
    _, features, memory = scene
    prediction = runner(variant='fast').segment(features, memory, OBJECTS)
    read = instance_reads(prediction, memory)
    coarse = part(CoarseHead(8), 'coarse', features.value, read)
    scores = sigmoid(to_image(coarse[0, ..., 0])) * sigmoid(prediction.foreground_logits)
    np.testing.assert_allclose(object_probabilities(prediction)[:2], scores[:2], atol=1e-5)


def test_more_slots_leave_the_entry_of_a_frame_as_it_was(scene):
    full, _, memory = scene
    entry = jax.tree.map(lambda a: a[:, :1], memory)
    widen = jax.jit(lambda v, entry: full.model.apply(v, entry, 6, method='widen'))
    wide = widen(full.variables, entry)
    assert wide.object_values.shape == (1, 1, 12, 6, 8)
    np.testing.assert_allclose(wide.object_values[:, :, :, :3], entry.object_values, atol=1e-5)
    # An object that comes later is absent here, as the unused third slot is.
    np.testing.assert_allclose(
        wide.object_values[:, :, :, 5], entry.object_values[:, :, :, 2], atol=1e-5
    )


def test_bfloat16_computes_roughly_the_same_and_keeps_probabilities_in_float32(prediction):
    half = Runner(GIEL(SPEC, jnp.bfloat16))
    memory = half.memory(FRAMES[:2], soft_masks(), OBJECTS, num_empty=1)
    assert {memory.keys.dtype, memory.object_values.dtype} == {jnp.bfloat16.dtype}
    found = half.segment(half.encode(FRAMES[2]), memory, OBJECTS)
    assert found.probabilities.dtype == found.affinity.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-6)
    # 8 significant bits through some twenty layers.
    assert abs(found.probabilities - prediction.probabilities).mean() < 0.02


@pytest.mark.parametrize('side', [33, 65])  # too large for the caches of a CPU, to be held at all
def test_an_affinity_too_large_to_be_held_changes_nothing_but_itself(side, rng):
    model = giel(locality='random_walk')
    variables = variables_of(model)
    size = (side * STRIDE - 3, side * STRIDE)  # 1,089 or 4,225 cells in a memory of one frame
    frames = rng.integers(0, 256, (1, *size, 3), np.uint8)
    masks = protocol.given_masks(rng.random((1, 2, *size), np.float32) / 2)
    objects, time = np.array([[True, False]]), np.zeros(1, np.int32)

    def predict(variables, train):
        apply = lambda method, *given: model.apply(variables, *given, method=method)  # noqa: E731
        features = apply('encode', frames)
        memory = apply('memorise', frames, features, masks, objects, time)
        return apply('segment', features, memory, objects, time + 1, train)

    in_tiles, whole = (jax.jit(predict, static_argnums=1)(variables, t) for t in (False, True))
    assert in_tiles.affinity is None
    assert whole.affinity.shape == (1, 1, side**2, side**2)
    np.testing.assert_allclose(in_tiles.probabilities, whole.probabilities, atol=1e-5)
