"""Losses on the outputs of an unrolled clip. All are means over valid pixels, in float32.

Void pixels (label 255) take no part. Padding never reaches this file: predictions are cropped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from vos_jax.ops import aggregation
from vos_jax.storage.palette import VOID
from vos_jax.training.unroll import label_cells


class Totals(NamedTuple):
    """What the means of a batch are taken over.

    A part of a batch, with the totals of the whole, has its share of the loss: the shares of all
    parts add up to the loss of the batch (gradient accumulation).
    """

    frames: int  # number of predicted frames
    pixels: jax.Array  # f32 scalar, valid pixels in them
    objects: jax.Array  # i32 scalar, slots in use, counted once for each frame
    cells: jax.Array | None  # f32 scalar, valid memory cells; None where nothing is propagated


class Truth(NamedTuple):
    """The true labels of a batch of clips."""

    labels: jax.Array  # u8[B, T, H, W] slot labels
    objects: jax.Array  # bool[B, K], slots in use
    stride: int  # pixels per memory cell

    def last(self, count):
        """Labels u8[B * count, H, W] and objects bool[B * count, K] of the last `count` frames."""
        return _frames(self.labels[:, -count:]), jnp.repeat(self.objects, count, axis=0)


def totals_of(truth, count, has_cells=True):
    """Totals of a batch, which follow from the labels alone.

    Args:
      truth: Truth.
      count: predicted frames of each clip, the last ones.
      has_cells: whether propagated labels take part in the loss.
    """
    labels, objects = truth.labels[:, -count:], truth.objects
    cells = label_cells(labels, objects.shape[1], truth.stride).sum() if has_cells else None
    pixels = (labels != VOID).astype(jnp.float32).sum()
    return Totals(labels.shape[0] * count, pixels, objects.sum() * count, cells)


def _mean(values, valid, total=None):
    """Mean over all valid pixels of all frames; over `total` of them for a part of a batch."""
    return (values * valid).sum() / jnp.maximum(valid.sum() if total is None else total, 1.0)


def binary_cross_entropy(logits, targets, valid, total=None):
    """BCE of the class-agnostic map (GIEL, Eq. 13): logits, targets, valid f32[N, H, W].

    `total`: of `valid` in the whole batch, see `Totals`; so below.
    """
    return _mean(optax.losses.sigmoid_binary_cross_entropy(logits, targets), valid, total)


def pixel_cross_entropy(logits, labels):
    """Cross entropy f32[N, H, W] of logits f32[N, K+1, H, W]; void pixels give 0."""
    valid = labels != VOID
    index = jnp.where(valid, labels, 0).astype(jnp.int32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, index, axis=1)
    return jnp.where(valid, losses, 0.0)


def hardest_mean(losses, valid, fraction, total=None):
    """Mean of the hardest `fraction` of the pixels of each frame (bootstrapped CE, CFBI).

    Args:
      losses, valid: f32[N, H, W].
      fraction: float in (0, 1]; may be traced (it is annealed).
      total: frames of the whole batch.
    """
    flat = losses.reshape(losses.shape[0], -1)
    count = jnp.maximum(jnp.floor(fraction * valid.sum(axis=(1, 2))), 1.0)[:, None]
    order = _in_order(lax.stop_gradient(flat))
    least = _largest(order, count)
    above, at = order > least, order == least
    # Of pixels as hard as the last one that is kept, all have a part: no order among them counts.
    share = (count - above.sum(axis=1, keepdims=True)) / at.sum(axis=1, keepdims=True)
    kept = jnp.where(above, flat, jnp.where(at, share * flat, 0.0))
    means = kept.sum(axis=1) / count[:, 0]
    return means.sum() / (len(losses) if total is None else total)


def _in_order(values):
    """u32 numbers in the order of f32 values; NaN, of either sign, is the largest."""
    bits = lax.bitcast_convert_type(values, jnp.uint32)
    sign = jnp.uint32(2**31)
    order = jnp.where(bits < sign, bits | sign, ~bits)
    return jnp.where(jnp.isnan(values), jnp.uint32(2**32 - 1), order)


def _largest(order, count):
    """The count-th largest number (f32[N, 1]) of each row of u32[N, P]: u32[N, 1].

    Found by two bits at a time, in sixteen passes that count; a sort takes more than a hundred on
    an accelerator.
    """
    found = jnp.zeros((len(order), 1), jnp.uint32)
    for shift in range(30, -1, -2):
        nexts = found | (jnp.arange(1, 4, dtype=jnp.uint32) << shift)  # [N, 3]
        numbers = (order[:, None] >= nexts[..., None]).sum(axis=2)
        digit = (numbers >= count).sum(axis=1, keepdims=True).astype(jnp.uint32)
        found = found | (digit << shift)
    return found


def dice(logits, labels, objects, total=None):
    """1 - Dice coefficient of the aggregated probabilities, mean over the slots in use.

    Of logits f32[N, K+1, H, W], labels u8[N, H, W] and slots in use bool[N, K].
    """
    probabilities = aggregation.probabilities_of(logits)[:, 1:]
    valid = (labels != VOID)[:, None]
    targets = aggregation.one_hot_masks(labels, objects.shape[1])
    product = (probabilities * targets * valid).sum(axis=(2, 3))
    areas = ((probabilities + targets) * valid).sum(axis=(2, 3))
    # + 1 pixel: an absent object that is not predicted costs nothing.
    losses = 1.0 - (2.0 * product + 1.0) / (areas + 1.0)
    return (losses * objects).sum() / jnp.maximum(objects.sum() if total is None else total, 1)


def propagation(propagated, labels, stride, total=None):
    """Cross entropy of labels carried through the affinity alone (GIEL, Eq. 1) (D9).

    It trains the keys directly: no decoder has to work before they get a gradient.

    Args:
      propagated: f32[N, K+1, P], shares of each slot read from the true labels of the memory.
      labels: u8[N, H, W] of the query frames.
      stride: pixels per cell.
    """
    num_slots = propagated.shape[1] - 1
    targets = label_cells(labels[:, None], num_slots, stride)[:, 0]  # [N, P, K+1]
    log_p = jnp.log(jnp.clip(propagated, 1e-6, 1.0))
    total = targets.sum() if total is None else total
    return -(jnp.moveaxis(targets, -1, 1) * log_p).sum() / jnp.maximum(total, 1.0)


def clip_loss(outputs, truth, spec, hardest_fraction=1.0, totals=None):
    """Total loss of a batch of clips: BCE + lambda CE, and what the config adds (GIEL, Eq. 13).

    Args:
      outputs: of `unroll.unroll`, leading axes [B, N], the last N frames of the clips.
      truth: Truth.
      spec: LossSpec; a term of weight 0 is not computed. With `frames` 'last' the last frame counts
        alone (D10).
      hardest_fraction: share of the pixels that enter the cross entropy; may be traced.
      totals: of the whole batch where this is a part of one, `totals_of`.

    Returns:
      loss, dict of its unweighted terms (with `ce_all`, the un-mined cross entropy).
    """
    first = {'all': 0, 'last': -1}[spec.frames]
    outputs = jax.tree.map(lambda output: output[:, first:], outputs)
    count = outputs['logits'].shape[1]
    if totals is None:
        totals = totals_of(truth, count, bool(spec.propagation))
    outputs, (labels, objects) = jax.tree.map(_frames, outputs), truth.last(count)
    valid = (labels != VOID).astype(jnp.float32)
    losses = pixel_cross_entropy(outputs['logits'], labels)
    terms = {'ce_all': _mean(losses, valid, totals.pixels)}
    terms['ce'] = terms['ce_all']
    if isinstance(hardest_fraction, jax.Array) or hardest_fraction < 1.0:
        counted = valid if spec.hardest_of == 'valid' else jnp.ones_like(valid)
        terms['ce'] = hardest_mean(losses, counted, hardest_fraction, totals.frames)
    if spec.bce and 'foreground_logits' in outputs:
        union = ((labels > 0) & (labels != VOID)).astype(jnp.float32)
        terms['bce'] = binary_cross_entropy(
            outputs['foreground_logits'], union, valid, totals.pixels
        )
    if spec.dice:
        terms['dice'] = dice(outputs['logits'], labels, objects, totals.objects)
    if spec.propagation:
        terms['propagation'] = propagation(
            outputs['propagated'], labels, truth.stride, totals.cells
        )
    weighted = (getattr(spec, name) * term for name, term in terms.items() if name != 'ce_all')
    return sum(weighted), terms


def _frames(x):
    """[B, T, ...] -> [B * T, ...]."""
    return x.reshape(-1, *x.shape[2:])
