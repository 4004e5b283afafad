import functools

import jax
import numpy as np
import pytest

from tests.models.tiny import (
    CLIP,
    FRAMES,
    GRID,
    OBJECTS,
    SIZE,
    STRIDE,
    clip,
    giel,
    masks_of,
    runner,
    softmax,
    variables_of,
)
from tests.models.toy import Toy, ToySpec
from vos_jax.config.read import read
from vos_jax.config.schema import TrainingSpec
from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import protocol
from vos_jax.models.giel.parts import LabelEncoder
from vos_jax.training import unroll
from vos_jax.training.unroll import Teacher, Unrolling

LABELS = CLIP['labels'][0]


def given(batch):
    """True masks of the first frames, f32[B, K, H, W]."""
    return masks_of(batch['labels'][:, 0], batch['objects'].shape[1])


def cells_of(labels, num_slots):
    """[..., P, K+1]: shares of background and slots in each memory cell; padding has none."""
    masks = masks_of(labels, num_slots)
    background = (labels == 0)[..., None, :, :]
    masks = np.concatenate([background, masks], axis=-3)
    shape = (GRID[0] * STRIDE, GRID[1] * STRIDE)
    padding = [(0, 0)] * (masks.ndim - 2) + [(0, shape[i] - SIZE[i]) for i in range(2)]
    masks = np.pad(masks, padding)
    masks = masks.reshape(*masks.shape[:-2], GRID[0], STRIDE, GRID[1], STRIDE)
    cells = masks.mean(axis=(-3, -1))
    return np.moveaxis(cells.reshape(*cells.shape[:-2], -1), -2, -1)


def assert_close(found, expected):
    """The same trees of numbers, but for sums in another order."""

    def check(a, b):
        np.testing.assert_allclose(a, b, atol=1e-6 + 1e-4 * abs(b).max())

    jax.tree.map(check, found, expected)


@pytest.fixture(scope='module')
def outputs_of():
    """Function (batch, sequential) -> outputs of the full model, compiled once."""
    tiny = runner()
    masks = given(CLIP)

    @jax.jit
    def compiled(variables, frames, labels, sequential):
        return unroll.unroll(
            tiny.model,
            variables,
            frames,
            masks,
            CLIP['objects'],
            teacher=Teacher(labels, sequential),
        )[0]

    return lambda batch, sequential: jax.tree.map(
        np.asarray, compiled(tiny.variables, batch['frames'], batch['labels'], sequential)
    )


def test_a_clip_unrolled_is_the_video_segmented_frame_by_frame(outputs_of):
    tiny = runner()
    logits = outputs_of(CLIP, True)['logits'][0]
    segmenter = Segmenter(tiny.model, tiny.variables)
    segmenter.start(FRAMES[0], LABELS[0])
    for time in range(1, 4):
        labels, probabilities = segmenter.step(FRAMES[time], probabilities=True)
        expected = softmax(logits[time - 1], axis=0)
        np.testing.assert_allclose(probabilities, expected[:3], atol=1e-5)
        assert (expected[3] == 0).all()
        sure = np.ptp(np.sort(expected, axis=0)[-2:], axis=0) > 1e-4
        np.testing.assert_array_equal(labels[sure], expected.argmax(axis=0)[sure])


def test_a_frame_has_no_influence_on_earlier_ones(outputs_of):
    other = {**CLIP, 'frames': CLIP['frames'].copy()}
    other['frames'][:, 3] = 0
    before, after = outputs_of(CLIP, True)['logits'], outputs_of(other, True)['logits']
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (before[:, 2] != after[:, 2]).any()


def test_before_the_recurrent_training_the_memory_holds_true_masks(outputs_of):
    tiny = runner()
    masks = jax.tree.map(np.asarray, protocol.given_masks(masks_of(LABELS[:2], 3)))
    memory = tiny.memory(FRAMES[:2], masks, OBJECTS, num_empty=1)
    expected = tiny.segment(tiny.encode(FRAMES[2]), memory, OBJECTS)
    outputs = outputs_of(CLIP, False)
    np.testing.assert_allclose(outputs['logits'][0, 1, :3], expected.logits[0, :3], atol=1e-4)
    assert abs(outputs['logits'] - outputs_of(CLIP, True)['logits'])[0, 1].max() > 1e-3
    # The true labels read through the affinity (GIEL, Eq. 1).
    affinity = expected.affinity[0, :2]
    carried = np.einsum('tpq,tpk->kq', affinity, cells_of(LABELS[:2], 3))
    np.testing.assert_allclose(outputs['propagated'][0, 1], carried, atol=1e-5)


def test_frames_before_the_first_predicted_one_have_their_true_masks(outputs_of):
    outputs = jax.jit(
        lambda variables: unroll.unroll(
            runner().model,
            variables,
            CLIP['frames'],
            given(CLIP),
            CLIP['objects'],
            Unrolling(predict_from=3),
            teacher=Teacher(CLIP['labels']),
        )[0]
    )(runner().variables)
    assert_close(outputs['logits'], outputs_of(CLIP, False)['logits'][:, 2:])


def test_void_pixels_of_a_cell_belong_to_nobody():
    labels = np.array([[1, 1, 0, 255], [1, 255, 255, 255]], np.uint8)[None, None]
    cells = unroll.label_cells(labels, 2, 2)
    np.testing.assert_allclose(cells, [[[[0, 0.75, 0], [0.25, 0, 0]]]])


def test_batch_statistics_pass_through_the_steps():
    # True masks in the memory, so what the label encoder sees is known: frames 0, then 1.
    batch = clip(batch=2, length=3, num_slots=2)
    model = giel(variant='fast', label_norm='bn')
    variables = variables_of(model)
    masks = given(batch)

    @jax.jit
    def updated(variables):
        _, new = unroll.unroll(
            model,
            variables,
            batch['frames'],
            masks,
            batch['objects'],
            teacher=Teacher(batch['labels'], sequential=False),
            train=True,
        )
        return new['batch_stats']

    @jax.jit
    def learned(statistics, cells):
        own = {'params': variables['params']['label_encoder'], 'batch_stats': statistics}
        module = LabelEncoder(8, 'area', 'bn')
        return module.apply(own, cells, batch['objects'], True, mutable=['batch_stats'])[1]

    statistics = variables['batch_stats']['label_encoder']
    for time in (0, 1):
        cells = np.moveaxis(cells_of(batch['labels'][:, time], 2)[..., 1:], -1, 1)
        statistics = learned(statistics, cells.reshape(2, 2, *GRID))['batch_stats']
    found = updated(variables)
    assert_close(found['label_encoder'], statistics)
    for name in ('query_encoder', 'support_encoder'):  # frozen
        jax.tree.map(np.testing.assert_array_equal, found[name], variables['batch_stats'][name])


@functools.cache
def loss_and_gradient(model, remat='none', unrolled=False):
    batch = clip(batch=2, length=3, size=(16, 16), num_slots=2)
    variables = variables_of(model)
    masks = given(batch)

    def loss(params):
        outputs, new = unroll.unroll(
            model,
            {**variables, 'params': params},
            batch['frames'],
            masks,
            batch['objects'],
            Unrolling(remat, unrolled),
            train=True,
        )
        value = jax.nn.log_softmax(outputs['logits'], axis=2)[:, :, 1].mean()
        return value, new.get('batch_stats', {})

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])


TOY = Toy(ToySpec())
FAST = giel(variant='fast')  # has batch statistics


@pytest.mark.parametrize(
    ('model', 'remat', 'unrolled'),
    [
        (TOY, 'none', True),
        (TOY, 'step', False),
        (TOY, 'products', False),
        (FAST, 'full', False),
    ],
)
def test_how_steps_are_compiled_changes_neither_loss_nor_gradient(model, remat, unrolled):
    (loss, statistics), gradient = loss_and_gradient(model, remat, unrolled)
    (expected_loss, expected_statistics), expected = loss_and_gradient(model)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    assert_close(gradient, expected)
    assert_close(statistics, expected_statistics)


def test_an_unknown_remat_is_refused():
    with pytest.raises(
        InputError, match="is 'all'; one of 'auto', 'none', 'products', 'step', 'full'"
    ):
        read(TrainingSpec, {'remat': 'all'}, 'training')
