import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.config.schema import LossSpec
from vos_jax.training import losses

LOG2 = np.log(2)


def logits_of(*probabilities):
    """f32[1, K+1, 1, W] from one row of probabilities for each slot."""
    with np.errstate(divide='ignore'):
        return np.maximum(np.log(np.array(probabilities, np.float32)), -50)[None, :, None]


def row(*values, dtype=np.float32):
    """[1, 1, W]"""
    return np.array(values, dtype)[None, None]


def test_binary_cross_entropy_is_a_mean_over_valid_pixels():
    # -log 1/2, -log 3/4, and a pixel that does not count.
    logits = row(0.0, np.log(3), 100.0)
    loss = losses.binary_cross_entropy(logits, row(1, 1, 0), row(1, 1, 0))
    np.testing.assert_allclose(loss, (LOG2 + np.log(4 / 3)) / 2, rtol=1e-6)


def test_binary_cross_entropy_of_a_sure_mistake_is_the_logit():
    loss = losses.binary_cross_entropy(row(200.0), row(0), row(1))
    assert loss == 200.0


def test_cross_entropy_of_each_pixel():
    logits = logits_of([0.5, 0.1, 0.2], [0.25, 0.8, 0.3], [0.25, 0.1, 0.5])
    labels = row(0, 1, 255, dtype=np.uint8)
    found = jax.jit(losses.pixel_cross_entropy)(logits, labels)
    np.testing.assert_allclose(found, [[[LOG2, np.log(1.25), 0]]], atol=1e-6)


@pytest.mark.parametrize(('fraction', 'expected'), [(1.0, 2.5), (0.5, 3.5), (0.01, 4.0)])
def test_the_mean_of_the_hardest_pixels(fraction, expected):
    assert losses.hardest_mean(row(1, 4, 2, 3), row(1, 1, 1, 1), fraction) == expected


def test_the_hardest_share_is_one_of_the_valid_pixels_of_each_frame():
    # Half of four pixels, half of two: (4 + 3) / 2 and 8 / 1.
    values = np.array([[[1, 4, 2, 3]], [[8, 5, 0, 0]]], np.float32)
    valid = np.array([[[1, 1, 1, 1]], [[1, 1, 0, 0]]], np.float32)
    assert losses.hardest_mean(values, valid, jnp.float32(0.5)) == (3.5 + 8) / 2


def sorted_mean(values, count):
    """The same by a sort, of each frame."""
    return (-np.sort(-values.reshape(len(values), -1)))[:, :count].mean(axis=1).mean()


def test_the_hardest_pixels_are_those_of_a_sort_without_one(rng):
    values = rng.exponential(size=(3, 20, 31)).astype(np.float32)
    values[1] = np.round(values[1], 1)  # many pixels as hard as another
    values[2, :10] = 0  # void
    values[2, 0, 0] = -1e-7  # a rounded zero
    value = jax.jit(losses.hardest_mean)
    for fraction in (1 / 620, 0.15, 0.5, 1.0):
        found = value(values, np.ones_like(values), np.float32(fraction))
        expected = sorted_mean(values, max(int(np.floor(np.float32(fraction) * 620)), 1))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 'sort' not in value.lower(values, values, 0.5).as_text()


def test_the_gradient_goes_to_the_hardest_pixels_in_equal_parts():
    gradient = jax.grad(losses.hardest_mean)(row(3, 1, 2, 2), row(1, 1, 1, 1), 0.5)
    np.testing.assert_array_equal(gradient, row(0.5, 0, 0.25, 0.25))


@pytest.mark.parametrize('sign', [1, -1])
def test_a_loss_that_is_no_number_is_among_the_hardest(sign):
    values = row(1, np.copysign(np.nan, sign), 2, 3)
    assert np.isnan(losses.hardest_mean(values, row(1, 1, 1, 1), 0.25))


def test_dice_worked_out_by_hand():
    # Product 1 + 0.5, total 1.5 + 2: 1 - (2 * 1.5 + 1) / (3.5 + 1).
    logits = logits_of([0, 0.5, 1], [1, 0.5, 0])
    loss = jax.jit(losses.dice)(logits, row(1, 1, 0, dtype=np.uint8), np.array([[True]]))
    np.testing.assert_allclose(loss, 1 - 4 / 4.5, atol=1e-6)


def test_dice_leaves_void_and_unused_slots_out():
    logits = logits_of([0, 0.5, 0], [1, 0.5, 0], [0, 0, 1])
    labels = row(1, 1, 255, dtype=np.uint8)
    loss = jax.jit(losses.dice)(logits, labels, np.array([[True, False]]))
    np.testing.assert_allclose(loss, 1 - 4 / 4.5, atol=1e-6)


def test_an_absent_object_that_is_not_predicted_costs_no_dice():
    loss = jax.jit(losses.dice)(
        logits_of([1, 1], [0, 0]), row(0, 0, dtype=np.uint8), np.array([[True]])
    )
    np.testing.assert_allclose(loss, 0, atol=1e-6)


def test_the_propagation_loss_weighs_a_cell_by_its_valid_pixels():
    # Cells of two pixels a side. First cell: slot 1 everywhere, propagated with 1/4: log 4.
    # Second cell: background in one half, void in the other, propagated with 1/2: log 2, half as
    # heavy.
    labels = np.array([[[1, 1, 0, 255], [1, 1, 0, 255]]], np.uint8)
    propagated = np.array([[[0.75, 0.5], [0.25, 0.5]]], np.float32)
    loss = jax.jit(losses.propagation, static_argnums=2)(propagated, labels, 2)
    np.testing.assert_allclose(loss, (2 * LOG2 + 0.5 * LOG2) / 1.5, rtol=1e-6)


def test_labels_that_nothing_in_the_memory_has_cost_a_finite_loss():
    labels = np.ones((1, 2, 2), np.uint8)
    loss = jax.jit(losses.propagation, static_argnums=2)(
        np.array([[[1.0], [0.0]]], np.float32), labels, 2
    )
    np.testing.assert_allclose(loss, -np.log(1e-6), rtol=1e-5)


SPEC = LossSpec(bce=1.0, ce=2.0, dice=0.5, propagation=3.0)
OBJECTS = np.array([[True, True], [True, False]])


@pytest.fixture
def clips(rng):
    """Outputs and labels of two clips of three frames, cells of 4 pixels; some pixels are void."""
    propagated = rng.uniform(0.1, 1, (2, 2, 3, 4)).astype(np.float32)
    outputs = {
        'logits': rng.standard_normal((2, 2, 3, 8, 8), np.float32),
        'foreground_logits': rng.standard_normal((2, 2, 8, 8), np.float32),
        'propagated': propagated / propagated.sum(axis=2, keepdims=True),
    }
    outputs['logits'][1, :, 2] = -1e9
    labels = rng.integers(0, 3, (2, 3, 8, 8)).astype(np.uint8)
    labels[1] = np.minimum(labels[1], 1)
    labels[:, :, 3:5] = 255
    return outputs, labels


def truth_of(labels):
    return losses.Truth(labels, OBJECTS, stride=4)


@jax.jit
def clip_loss(outputs, labels, fraction):
    return losses.clip_loss(outputs, truth_of(labels), SPEC, fraction)


def test_the_loss_is_the_weighted_sum_of_its_terms(clips):
    loss, terms = clip_loss(*clips, 1.0)
    assert set(terms) == {'bce', 'ce', 'ce_all', 'dice', 'propagation'}
    expected = sum(
        getattr(SPEC, name) * terms[name] for name in ('bce', 'ce', 'dice', 'propagation')
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_terms_are_means_over_all_predicted_frames(clips):
    outputs, labels = clips
    labels = labels[:, 1:]
    valid = labels != 255
    union = valid & (labels > 0)
    p = 1 / (1 + np.exp(-outputs['foreground_logits'].astype(float)))
    _, terms = clip_loss(*clips, 1.0)
    bce = -np.where(union, np.log(p), np.log(1 - p))[valid].mean()
    np.testing.assert_allclose(terms['bce'], bce, rtol=1e-5)
    scores = np.moveaxis(outputs['logits'].astype(float), 2, -1)[valid]
    log_p = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    ce = -log_p[np.arange(len(log_p)), labels[valid]].mean()
    np.testing.assert_allclose(terms['ce_all'], ce, rtol=1e-5)


def test_void_pixels_take_no_part(clips):
    outputs, labels = clips
    gradient = jax.jit(jax.grad(lambda o: losses.clip_loss(o, truth_of(labels), SPEC)[0]))
    found = gradient(outputs)
    valid = labels[:, 1:] != 255
    for name, axis in (('logits', 2), ('foreground_logits', None)):
        part = np.asarray(found[name])
        assert np.isfinite(part).all()
        part = abs(part) if axis is None else abs(part).sum(axis=axis)
        assert (part[~valid] == 0).all()
        assert (part[valid] > 0).all()


def test_mining_raises_the_cross_entropy_alone(clips):
    _, all_pixels = clip_loss(*clips, 1.0)
    _, hardest = clip_loss(*clips, 0.2)
    # All frames have as many void pixels, so the mean of their means is the mean of all.
    np.testing.assert_allclose(all_pixels['ce'], all_pixels['ce_all'], rtol=1e-5)
    assert hardest['ce'] > 1.5 * hardest['ce_all']
    for name in ('ce_all', 'bce', 'dice', 'propagation'):
        assert hardest[name] == all_pixels[name]


def test_the_hardest_share_may_count_void_pixels(clips):
    outputs, labels = clips
    void = labels[:, 1:] == 255

    def loss(hardest_of):
        spec = dataclasses.replace(SPEC, hardest_of=hardest_of)
        of_clip = jax.jit(lambda *clips: losses.clip_loss(clips[0], truth_of(clips[1]), spec, 0.5))
        return of_clip(outputs, labels)[1]['ce']

    assert void.mean() == 0.25
    found, valid = loss('all'), loss('valid')
    pixels = jax.jit(losses.pixel_cross_entropy)(*map(_flat, (outputs['logits'], labels[:, 1:])))
    hardest = -np.sort(-np.asarray(pixels).reshape(4, 64), axis=1)
    np.testing.assert_allclose(found, hardest[:, :32].mean(), rtol=1e-5)
    np.testing.assert_allclose(valid, hardest[:, :24].mean(), rtol=1e-5)


def _flat(x):
    return x.reshape(-1, *x.shape[2:])


def test_the_loss_may_be_that_of_the_last_frame(clips):  # D10
    outputs, labels = clips

    @jax.jit
    def last_loss(outputs, labels):
        spec = dataclasses.replace(SPEC, frames='last')
        return losses.clip_loss(outputs, truth_of(labels), spec)

    found = last_loss(outputs, labels)
    other = jax.tree.map(np.array, outputs)
    for part in other.values():
        part[:, 0] += 1
    jax.tree.map(np.testing.assert_array_equal, last_loss(other, labels), found)
    assert found[0] != clip_loss(outputs, labels, 1.0)[0]


def test_terms_of_weight_zero_and_of_missing_branches_are_not_computed(clips):
    outputs, labels = clips
    outputs = {'logits': outputs['logits']}
    spec = LossSpec(bce=1.0, ce=1.0)
    loss, terms = jax.jit(lambda o: losses.clip_loss(o, truth_of(labels), spec))(outputs)
    assert set(terms) == {'ce', 'ce_all'}
    assert loss == terms['ce']
