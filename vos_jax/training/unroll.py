"""Recurrent training: a clip is segmented one frame after the other, by the step of inference."""

from functools import partial

import jax
import jax.numpy as jnp

from vos_jax.errors import InputError
from vos_jax.inference.temporal import Previous, apply, memorise, temporal_step
from vos_jax.models import protocol
from vos_jax.ops import aggregation, resize
from vos_jax.ops import memory as memory_ops

REMAT = ('none', 'products', 'step', 'full')


def unroll(
    model,
    variables,
    frames,
    given,
    objects,
    *,
    train=False,
    remat='none',
    unrolled=False,
    labels=None,
    sequential=True,
    rows=lambda tree, axis: tree,
    predict_from=1,
    dropout=None,
):
    """Segments a clip whose first frame is given, one frame after the other (recurrent training).

    Args:
      model, variables: the model.
      frames: u8[B, T, H, W, 3].
      given: f32[B, K, H, W], masks of the first frame.
      objects: bool[B, K].
      train: whether norms use batch statistics.
      remat: 'none'; 'step': each step is recomputed in the backward pass; 'full': the encoding of
        the query frames too; 'products': as 'full', but convolutions and matrix products are kept.
      unrolled: whether the steps are compiled one by one in place of as a loop. XLA's CPU backend
        runs the convolutions of a loop's gradient 15 to 20 times slower than outside of a loop; but
        outside of one it merges what `remat` recomputes with the first values, and saves nothing.
      labels: u8[B, T, H, W] slot labels, if the propagation of the true labels is wanted.
      sequential: bool, may be traced; False memorises the true masks (from `labels`) in place of
        the predicted ones.
      rows: function (tree, axis) -> tree that says where the devices keep arrays [B, ...] whose
        `axis` are rows of images (training.sharding).
      predict_from: frames before this one are memorised with their true masks and not predicted;
        above 1 needs `labels`. Only the first is a given one (a reference).
      dropout: jax.random.key for dropout, which only encoders have; None: nothing is dropped.

    Returns:
      outputs: dict of arrays with leading axes [B, T - predict_from]: `logits` [K+1, H, W],
        `foreground_logits` [H, W] (absent without a global branch), and with `labels` `propagated`
        f32[..., K+1, P], the true labels of the memory read through the affinity (GIEL, Eq. 1);
        absent for a model without affinity.
      variables: with updated batch statistics.
    """
    if remat not in REMAT:
        raise InputError(f"'training.remat' is {remat!r}; one of {', '.join(map(repr, REMAT))}")
    batch, length = frames.shape[:2]
    encode = lambda v, x: apply(model, v, train, 'encode', x, dropout=dropout)  # noqa: E731
    if remat in ('products', 'full'):
        encode = recomputed(encode, remat)
    features, variables = encode(variables, rows(frames.reshape(-1, *frames.shape[2:]), 1))
    features = rows(features, 1)
    features = jax.tree.map(lambda a: _time_first(a, batch), features)
    times = jnp.broadcast_to(jnp.arange(length)[:, None], (length, batch))
    frames = jnp.moveaxis(frames, 1, 0)
    cells = None if labels is None else label_cells(labels, objects.shape[1], model.stride)
    # The parameters stay out of the carry: remat would keep a copy of them for each step.
    fixed = {name: group for name, group in variables.items() if name != 'batch_stats'}

    def true_masks(truth):
        masks = protocol.given_masks(aggregation.one_hot_masks(truth, objects.shape[1]))
        return masks.replace(given=jnp.zeros_like(masks.given))  # true, but no reference

    def body(carry, inputs):
        memory, masks, statistics = carry
        variables = {**fixed, **statistics}
        position, old, old_features, new_features, old_time, new_time, truth = inputs
        previous = Previous(old, old_features, masks, old_time)
        prediction, memory, _, variables = temporal_step(
            model,
            variables,
            memory,
            previous,
            new_features,
            objects,
            position,
            new_time,
            train=train,
        )
        outputs = {'logits': rows(prediction.logits, 2)}
        if prediction.foreground_logits is not None:
            outputs['foreground_logits'] = prediction.foreground_logits
        if cells is not None and prediction.affinity is not None:
            read = memory_ops.read_memory(prediction.affinity, cells[:, : length - 1])
            outputs['propagated'] = jnp.moveaxis(read, -1, 1)
        masks = prediction.masks()
        if truth is not None:
            masks = jax.tree.map(partial(jnp.where, sequential), masks, true_masks(truth))
        return (memory, masks, _statistics(variables)), outputs

    if remat != 'none':
        body = recomputed(body, remat)
    truths = None if labels is None else jnp.moveaxis(labels, 1, 0)
    masks = protocol.given_masks(given)
    previous = Previous(frames[0], jax.tree.map(lambda a: a[0], features), masks, times[0])
    shape = jax.eval_shape(lambda: memorise(model, variables, previous, objects, train)[0])
    memory = protocol.empty_like(shape, length - 1)
    for t in range(1, predict_from):
        entry, variables = memorise(model, variables, previous, objects, train)
        memory = protocol.write(memory, entry, t - 1)
        masks, seen = true_masks(truths[t]), jax.tree.map(lambda a, t=t: a[t], features)
        previous = Previous(frames[t], seen, masks, times[t])
    before, after = slice(predict_from - 1, -1), slice(predict_from, None)
    inputs = (
        jnp.arange(length - 1)[before.start :],
        frames[before],
        jax.tree.map(lambda a: a[before], features),
        jax.tree.map(lambda a: a[after], features),
        times[before],
        times[after],
        None if labels is None or sequential is True else truths[after],
    )
    (_, _, statistics), outputs = jax.lax.scan(
        body, (memory, masks, _statistics(variables)), inputs, unroll=unrolled
    )
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), outputs), {**fixed, **statistics}


def recomputed(function, remat):
    """The function with its values recomputed in the backward pass, as `remat` says."""
    return jax.checkpoint(function, policy=_is_product if remat == 'products' else None)


def _is_product(primitive, *_, **__):
    # ops' convolutions have gradients of their own: the policy sees the call, not what is in it.
    return primitive.name in ('dot_general', 'conv_general_dilated', 'custom_vjp_call')


def _statistics(variables):
    return {name: group for name, group in variables.items() if name == 'batch_stats'}


def _time_first(x, batch):
    """[B * T, ...] -> [T, B, ...]."""
    return jnp.moveaxis(x.reshape(batch, -1, *x.shape[1:]), 1, 0)


def label_cells(labels, num_slots, stride):
    """True label shares of the memory cells: f32[B, T, P, K+1]; background is what no slot has."""
    batch, length, height, width = labels.shape
    flat = labels.reshape(batch * length, height, width)
    masks = aggregation.one_hot_masks(flat, num_slots)
    void = (flat == 255).astype(jnp.float32)[:, None]
    background = 1.0 - masks.sum(axis=1, keepdims=True) - void
    masks = jnp.concatenate([background, masks], axis=1)
    cells = resize.cell_means(resize.pad_to_multiple(masks, stride, (2, 3)), stride)
    cells = cells.reshape(batch, length, num_slots + 1, -1)
    return jnp.moveaxis(cells, 2, 3)
