"""Recurrent training: a clip is segmented one frame after the other, by the step of inference."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from vos_jax.inference.temporal import Previous, apply, memorise, temporal_step
from vos_jax.models import protocol
from vos_jax.ops import aggregation, resize
from vos_jax.ops import memory as memory_ops
from vos_jax.ops.grid import Grid
from vos_jax.storage.palette import VOID


@dataclasses.dataclass(frozen=True)
class Unrolling:
    """How a clip is unrolled.

    Attributes:
      remat: 'none'; 'step': each step is recomputed in the backward pass; 'full': the encoding of
        the query frames too; 'products': as 'full', but convolutions and matrix products are kept.
      unrolled: whether the steps are compiled one by one instead of as a loop; on CPUs a step takes
        some 5 % less time so, but XLA's CPU backend merges what `remat` recomputes with the first
        values, and saves nothing.
      predict_from: frames before this one are memorised with their true masks and not predicted;
        above 1 needs a teacher. Only the first is a given one (a reference).
      rows: function (tree, axis) -> tree that says where the devices keep arrays [B, ...] whose
        `axis` are rows of images (`sharding.Constraints.rows`).
    """

    remat: str = 'none'
    unrolled: bool = False
    predict_from: int = 1
    rows: Callable = lambda tree, axis: tree


@flax.struct.dataclass
class Teacher:
    """The true labels, where more than the loss learns from them.

    Attributes:
      labels: u8[B, T, H, W] slot labels.
      sequential: bool scalar, may be traced; False memorises the true masks instead of the
        predicted ones.
    """

    labels: jax.Array
    sequential: jax.Array | bool = True


def unroll(
    model,
    variables,
    frames,
    given,
    objects,
    spec=Unrolling(),
    *,
    teacher=None,
    train=False,
    dropout=None,
):
    """Segments a clip whose first frame is given, one frame after the other (recurrent training).

    Args:
      model, variables: the model.
      frames: u8[B, T, H, W, 3].
      given: f32[B, K, H, W], masks of the first frame.
      objects: bool[B, K].
      spec: Unrolling.
      teacher: Teacher, for `propagated`, for the memory of true masks and for `predict_from`.
      train: whether norms use batch statistics.
      dropout: jax.random.key for dropout, which only encoders have; None: nothing is dropped.

    Returns:
      outputs: dict of arrays with leading axes [B, T - predict_from]: `logits` [K+1, H, W],
        `foreground_logits` [H, W] (absent without a global branch), and with a teacher `propagated`
        f32[..., K+1, P], the true labels of the memory read through the affinity (GIEL, Eq. 1);
        absent for a model without affinity.
      variables: with updated batch statistics.
    """
    features, variables = encode_clip(model, variables, frames, spec, train=train, dropout=dropout)
    cells = None
    if teacher is not None:
        cells = label_cells(teacher.labels, objects.shape[1], model.stride)[:, :-1]
    # The parameters stay out of the carry: remat would keep a copy of them for each step.
    fixed = {name: group for name, group in variables.items() if name != 'batch_stats'}
    shared = _Shared(model, fixed, objects, cells, train, spec.rows)
    clip = _time_major(frames, features, teacher)
    carry = _start(shared, clip, given, _statistics(variables), spec.predict_from)
    step = partial(_step, shared, None if teacher is None else teacher.sequential)
    if spec.remat != 'none':
        step = recomputed(step, spec.remat)
    steps = _steps(clip, spec.predict_from)
    (_, _, statistics), outputs = jax.lax.scan(step, carry, steps, unroll=spec.unrolled)
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), outputs), {**fixed, **statistics}


def encode_clip(model, variables, frames, spec, *, train=False, dropout=None):
    """Features [B * T, ...] of all frames u8[B, T, H, W, 3] at once, and the variables."""

    def encode(variables, frames):
        return apply(model, variables, train, 'encode', frames, dropout=dropout)

    if spec.remat in ('products', 'full'):
        encode = recomputed(encode, spec.remat)
    flat = frames.reshape(-1, *frames.shape[2:])
    features, variables = encode(variables, spec.rows(flat, 1))
    return spec.rows(features, 1), variables


@dataclasses.dataclass(frozen=True)
class _Shared:
    """What all steps of a clip share."""

    model: object
    fixed: dict  # the variables but for the batch statistics
    objects: jax.Array
    cells: jax.Array | None  # f32[B, T-1, P, K+1], label shares; None without a teacher
    train: bool
    rows: Callable

    def true_masks(self, labels):
        """Masks of slot labels u8[B, H, W]: true, but no reference."""
        masks = protocol.given_masks(aggregation.one_hot_masks(labels, self.objects.shape[1]))
        return masks.replace(given=jnp.zeros_like(masks.given))


@flax.struct.dataclass
class _Clip:
    """Frames of a clip, all arrays with leading axes [T, B]; `truth`, their labels, may be None."""

    frame: jax.Array
    features: object
    time: jax.Array
    truth: jax.Array | None

    def previous(self, index, masks):
        """Frame `index` with its masks, to be memorised."""
        features = jax.tree.map(lambda a: a[index], self.features)
        return Previous(self.frame[index], features, masks, self.time[index])


def _time_major(frames, features, teacher):
    """Frames u8[B, T, H, W, 3] and features [B * T, ...] as a _Clip."""
    batch, length = frames.shape[:2]
    by_clip = jax.tree.map(lambda a: a.reshape(batch, -1, *a.shape[1:]), features)
    return _Clip(
        frame=jnp.moveaxis(frames, 1, 0),
        features=jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), by_clip),
        time=jnp.broadcast_to(jnp.arange(length)[:, None], (length, batch)),
        truth=None if teacher is None else jnp.moveaxis(teacher.labels, 1, 0),
    )


def _start(shared, clip, given, statistics, predict_from):
    """What is carried into the first prediction: memory, masks of the last frame, statistics."""
    masks, variables = protocol.given_masks(given), {**shared.fixed, **statistics}

    def entry_of(index, masks, variables):
        previous = clip.previous(index, masks)
        return memorise(shared.model, variables, previous, shared.objects, shared.train)

    shapes = jax.eval_shape(lambda: entry_of(0, masks, variables)[0])
    memory = protocol.empty_like(shapes, len(clip.frame) - 1)
    for index in range(predict_from - 1):
        entry, variables = entry_of(index, masks, variables)
        memory = protocol.write(memory, entry, index)
        masks = shared.true_masks(clip.truth[index + 1])
    return memory, masks, _statistics(variables)


def _steps(clip, predict_from):
    """What each step takes: the position in the memory, the frame before, and its own."""
    before, after = slice(predict_from - 1, -1), slice(predict_from, None)
    positions = jnp.arange(len(clip.frame) - 1)[predict_from - 1 :]
    old = clip.replace(truth=None)
    return positions, jax.tree.map(lambda a: a[before], old), jax.tree.map(lambda a: a[after], clip)


def _step(shared, sequential, carry, inputs):
    """Memorises the frame before, and segments one: the body of the scan."""
    memory, masks, statistics = carry
    position, old, new = inputs
    prediction, memory, _, variables = temporal_step(
        shared.model,
        {**shared.fixed, **statistics},
        memory,
        Previous(old.frame, old.features, masks, old.time),
        new.features,
        shared.objects,
        position=position,
        time=new.time,
        train=shared.train,
    )
    masks = prediction.masks()
    if new.truth is not None and sequential is not True:
        true_masks = shared.true_masks(new.truth)
        masks = jax.tree.map(partial(jnp.where, sequential), masks, true_masks)
    return (memory, masks, _statistics(variables)), _outputs(shared, prediction)


def _outputs(shared, prediction):
    outputs = {'logits': shared.rows(prediction.logits, 2)}
    if prediction.foreground_logits is not None:
        outputs['foreground_logits'] = prediction.foreground_logits
    if shared.cells is not None and prediction.affinity is not None:
        read = memory_ops.read_memory(prediction.affinity, shared.cells)
        outputs['propagated'] = jnp.moveaxis(read, -1, 1)
    return outputs


def recomputed(function, remat):
    """The function with its values recomputed in the backward pass, as `remat` says."""
    return jax.checkpoint(function, policy=_is_product if remat == 'products' else None)


def _is_product(primitive, *_, **__):
    # ops' convolutions have gradients of their own: the policy sees the call, not what is in it.
    return primitive.name in ('dot_general', 'conv_general_dilated', 'custom_vjp_call')


def _statistics(variables):
    return {name: group for name, group in variables.items() if name == 'batch_stats'}


def label_cells(labels, num_slots, stride):
    """True label shares of the memory cells: f32[B, T, P, K+1]; background is what no slot has."""
    batch, length, height, width = labels.shape
    flat = labels.reshape(batch * length, height, width)
    masks = aggregation.one_hot_masks(flat, num_slots)
    void = (flat == VOID).astype(jnp.float32)[:, None]
    background = 1.0 - masks.sum(axis=1, keepdims=True) - void
    masks = jnp.concatenate([background, masks], axis=1)
    padded = Grid((height, width), stride).pad(masks, (2, 3))
    cells = resize.cell_means(padded, stride)
    cells = cells.reshape(batch, length, num_slots + 1, -1)
    return jnp.moveaxis(cells, 2, 3)
