"""CFBI's losses and gradients against the released training forward (parity/cfbi_train.npz).

Two clips of a reference, a previous and three current frames; the second clip has two objects.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.cfbi_records import OPTIONS, build
from vos_jax.models import torch_links
from vos_jax.models.cfbi.torch_names import FORMATS
from vos_jax.ops import aggregation
from vos_jax.training import losses, unroll
from vos_jax.training.optimizer import piecewise_linear

OBJECTS = np.array([[True, False], [True, True]])
# Relative, from the README: the biases' gradients cancel strongly.
NORM_TOLERANCES = {'GCT': 2e-2, 'g_bias': 1.5e-1, '': 1e-2}


@pytest.fixture(scope='module')
def clips(shared):
    return np.load(shared('parity/cfbi_train.npz'))


def fraction_at(step):
    """Share of the pixels that are kept: all at first, 15 % from step 50,000 on."""
    return piecewise_linear(((0, 1.0), (50_000, 0.15)))(step)


def loss_per_clip(logits, labels, fraction):
    """f32[B] of f32[B, S, H, W] and u8[B, H, W]; void counts as a pixel without loss."""
    pixels = losses.pixel_cross_entropy(logits, labels)
    everywhere = jnp.ones(labels.shape)
    return jnp.stack(
        [
            losses.hardest_mean(pixels[b : b + 1], everywhere[b : b + 1], fraction)
            for b in range(len(labels))
        ]
    )


def logits_of_frames(variables, frames, known, num_current, follow):
    """Logits of the current frames of both clips, f32[num_current, B, S, H, W], as in training.

    Args:
      frames: u8[T, B, H, W, 3], reference, previous, current ones.
      known: u8[T, B, H, W], true labels.
      num_current: how many current frames.
      follow: whether a prediction is the next previous mask; else the true labels.
    """
    frames, known = (jnp.moveaxis(x[: num_current + 2], 0, 1) for x in (frames, known))
    outputs, _ = unroll.unroll(
        build(),
        variables,
        frames,
        aggregation.one_hot_masks(known[:, 0], 2),
        OBJECTS,
        unroll.Unrolling(unrolled=True, predict_from=2),
        teacher=unroll.Teacher(known, follow),
        train=True,
    )
    return jnp.moveaxis(outputs['logits'], 1, 0)


def inputs_of(clips):
    frames = np.stack([clips[f'image{t}'] for t in range(5)])
    return frames, np.stack([clips[f'mask{t}'] for t in range(5)])


@pytest.fixture(scope='module')
def recorded_logits(clips):
    """f32[2, 3, H, W]; the slot that the first clip has not got is far below the others."""
    first, second = (clips[f'single_logits_clip{b}'][0] for b in range(2))
    first = np.concatenate([first, np.full_like(first[:1], -1e9)])
    return np.stack([first, second])


@pytest.mark.parametrize('step', [0, 12_500, 25_000, 37_500, 50_000, 75_000])
def test_the_hard_mined_loss_equals_the_released_one(clips, recorded_logits, step):
    labels = clips['mask2'].copy()
    labels[:, 40:60, 30:90] = 255
    index = list(clips['steps']).index(step)
    found = loss_per_clip(recorded_logits, labels, fraction_at(step))
    np.testing.assert_allclose(found, clips['ignore_loss_all_steps'][index], rtol=0, atol=1e-4)
    if f'single_loss_step{step}' in clips:
        found = loss_per_clip(recorded_logits, clips['mask2'], fraction_at(step))
        np.testing.assert_allclose(found, clips[f'single_loss_step{step}'], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_losses_and_gradients_of_one_frame_equal_the_released_ones(clips, cfbi_variables):
    frames, known = inputs_of(clips)
    constants = {'batch_stats': cfbi_variables['batch_stats']}

    def loss(params, fraction):
        variables = {'params': params, **constants}
        logits = logits_of_frames(variables, frames, known, 1, follow=False)[0]
        return loss_per_clip(logits, known[2], fraction).mean(), logits

    run = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=OPTIONS)
    for step in (0, 25_000, 50_000):
        (total, logits), gradients = run(cfbi_variables['params'], fraction_at(step))
        expected = clips[f'single_loss_step{step}'].mean()
        np.testing.assert_allclose(total, expected, rtol=0, atol=1e-4)
        theirs = in_their_names(gradients)
        compare_norms(theirs, clips['param_names'], clips[f'single_grad_norm_step{step}'])
        if step == 25_000:
            compare_whole(theirs, clips, 'single_grad_step25000/')
    np.testing.assert_allclose(logits[0, :2], clips['single_logits_clip0'][0], rtol=0, atol=3e-3)
    np.testing.assert_allclose(logits[1], clips['single_logits_clip1'][0], rtol=0, atol=3e-3)


@pytest.mark.long
def test_sequential_losses_equal_the_released_ones(clips, cfbi_variables):
    frames, known = inputs_of(clips)
    run = jax.jit(
        lambda variables: logits_of_frames(variables, frames, known, 3, follow=True),
        compiler_options=OPTIONS,
    )
    logits = run(cfbi_variables)
    found = np.asarray(aggregation.labels_of(logits.reshape(-1, *logits.shape[2:])))
    wrong = found.reshape(clips['seq_pred'].shape) != clips['seq_pred']
    assert wrong.mean() < 1e-3
    for index, step in enumerate(clips['steps']):
        fraction = fraction_at(step)
        for time, expected in enumerate(clips['seq_loss_all_steps'][index]):
            losses_found = loss_per_clip(logits[time], known[time + 2], fraction)
            np.testing.assert_allclose(losses_found, expected, rtol=0, atol=1e-4)


def in_their_names(gradients):
    """Gradients by the released names, in the released layout."""
    ours = torch_links.below({'params': jax.tree.map(np.asarray, gradients)})
    links = [link for link in FORMATS['cfbi'].links if link.ours in ours]
    return torch_links.to_theirs(links, ours)


def compare_norms(theirs, parameters, expected):
    for name, norm in zip(parameters, expected, strict=True):
        tolerance = next(t for part, t in NORM_TOLERANCES.items() if part in name)
        found = np.linalg.norm(theirs[name].astype(np.float64))
        np.testing.assert_allclose(found, norm, rtol=tolerance, err_msg=name)
    total = np.sqrt(sum(np.square(theirs[name].astype(np.float64)).sum() for name in parameters))
    np.testing.assert_allclose(total, np.linalg.norm(expected), rtol=2e-3)


def compare_whole(theirs, clips, prefix):
    """Whole gradients, to 4e-2 of the largest value of each."""
    stored = [key for key in clips.files if key.startswith(prefix)]
    assert len(stored) == 13
    for key in stored:
        tolerance = 4e-2 * np.abs(clips[key]).max()
        found = theirs[key.removeprefix(prefix)]
        np.testing.assert_allclose(found, clips[key], rtol=0, atol=tolerance, err_msg=key)
