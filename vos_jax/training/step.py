"""The train step: a function of (state, batch), everything static bound before it is compiled."""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from vos_jax.compilation import with_products
from vos_jax.config.schema import LossSpec, TrainingSpec
from vos_jax.errors import InputError
from vos_jax.ops import aggregation
from vos_jax.ops.warp import warp
from vos_jax.storage.palette import VOID
from vos_jax.training import losses, unroll
from vos_jax.training.optimizer import piecewise_linear
from vos_jax.training.sharding import Constraints


@flax.struct.dataclass
class TrainState:
    """Everything that training changes."""

    step: jax.Array  # i32 scalar, steps done
    params: dict  # of the model
    batch_stats: dict  # of the model; may be empty
    ema: dict  # moving average of `params`, or empty
    opt_state: optax.OptState

    def variables(self, averaged=True):
        """The model's variables; with `averaged` the moving average where there is one."""
        params = self.ema if averaged and self.ema else self.params
        return {'params': params, **({'batch_stats': self.batch_stats} if self.batch_stats else {})}


@dataclasses.dataclass(frozen=True)
class Objective:
    """All that the loss depends on but weights and clips."""

    model: object  # module with the methods of `models.protocol`
    loss: LossSpec
    training: TrainingSpec
    seed: int = 0  # of the run; the features that are dropped follow from it
    constraints: Constraints = Constraints()  # where the devices keep arrays

    def loss_of(self, params, state, batch, totals, draw):
        """The loss of a batch, or a part's share of it; for a gradient by `params`.

        Args:
          state: TrainState; its step and batch statistics count.
          batch: see `train_step`.
          totals: `losses.Totals` of a whole batch of which this is a part; None: it is one.
          draw: number of the call, for dropout.

        Returns:
          loss, (its terms, batch statistics).
        """
        variables = {'params': self.constraints.whole(params)}
        if state.batch_stats:
            variables['batch_stats'] = state.batch_stats
        labels, objects, training = batch['labels'], batch['objects'], self.training
        unrolling = unroll.Unrolling(
            'none' if training.remat == 'auto' else training.remat,
            training.unrolled,
            training.predict_from,
            self.constraints.rows,
        )
        outputs, variables = unroll.unroll(
            self.model,
            variables,
            batch['frames'],
            aggregation.one_hot_masks(labels[:, 0], objects.shape[1]),
            objects,
            unrolling,
            teacher=self._teacher(labels, state.step),
            train=True,
            dropout=jax.random.fold_in(jax.random.key(self.seed), draw),
        )
        truth = losses.Truth(labels, objects, self.model.stride)
        hardest = self.loss.hardest
        fraction = piecewise_linear(hardest)(state.step) if hardest else 1.0
        loss, terms = losses.clip_loss(outputs, truth, self.loss, fraction, totals)
        return loss, (terms, variables.get('batch_stats', {}))

    def totals_of(self, batch):
        """`losses.Totals` of a batch."""
        truth = losses.Truth(batch['labels'], batch['objects'], self.model.stride)
        num_frames = batch['labels'].shape[1] - self.training.predict_from
        count = 1 if self.loss.frames == 'last' else num_frames
        return losses.totals_of(truth, count, has_cells=bool(self.loss.propagation))

    def _teacher(self, labels, step):
        """A teacher, where something needs one."""
        since = self.training.sequential_from
        if not (self.loss.propagation or since or self.training.predict_from > 1):
            return None
        return unroll.Teacher(labels, step >= since if since else True)


def init_state(model, optimizer, shapes, key, ema):
    """A random TrainState for batches of the shapes dict(frames=, labels=, objects=).

    `ema`: whether a moving average of the weights is kept.
    """
    height, width = shapes['frames'].shape[2:4]
    # A small frame: parameters do not depend on its size, and initialisation runs the model once.
    height, width = min(height, 4 * model.stride), min(width, 4 * model.stride)
    slots = shapes['objects'].shape[1]
    frames = jnp.zeros((1, height, width, 3), jnp.uint8)
    masks = jnp.zeros((1, slots, height, width))
    variables = model.init(key, frames, masks, jnp.ones((1, slots), bool))
    params = variables['params']
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get('batch_stats', {}),
        ema=params if ema else {},
        opt_state=optimizer.init(params),
    )


def make_train_step(model, optimizer, config, mesh=None):
    """Binds model, optimizer and Config to `train_step`: a function (state, batch), not compiled.

    `mesh`: `sharding.make_mesh`, for a step that is sharded; None: nothing is constrained.
    """
    objective = Objective(model, config.loss, config.training, config.seed, Constraints(mesh))
    ladder = config.data.slot_ladder if config.data else None

    def step(state, batch):
        if 'pixels' in batch:
            batch = warped(batch, config.data.crop, objective.constraints)
        with with_products(config.precision):
            return train_step(objective, optimizer, state, batch, ladder)

    return step


def warped(batch, crop, constraints):
    """The batch of `train_step` from that of a loader with `data.warp` 'device'.

    Args:
      batch: dict(pixels=u32[B, T, H0, W0], frames and masks of ids, matrices=f32[B, T, 2, 3],
        sizes=i32[B, 2], see `ops.warp`; ids=u8[B, K] of each slot, objects=bool[B, K]).
      crop: (H, W) of the result.
      constraints: Constraints.
    """
    with constraints.context():
        frames, labels = warp(
            batch['pixels'], batch['matrices'], batch['sizes'], crop, constraints.rows
        )
    ids = jnp.where(batch['objects'], batch['ids'], VOID).T[..., None, None, None]
    slots = jnp.arange(1, len(ids) + 1, dtype=jnp.uint8)[:, None, None, None, None]
    slots = jnp.where(labels == ids, slots, 0).max(axis=0)
    labels = jnp.where(labels == VOID, VOID, slots).astype(jnp.uint8)
    return {'frames': frames, 'labels': labels, 'objects': batch['objects']}


def train_step(objective, optimizer, state, batch, ladder=None):
    """One step. Where loss or gradient is not finite, only the number of the step changes.

    Args:
      batch: dict(frames=u8[B, T, H, W, 3], labels=u8[B, T, H, W], objects=bool[B, K]).
      ladder: numbers of slots, of which the least that the batch needs is computed; None: K.

    Returns:
      The state after it, and a dict of f32 scalars: `loss`, its unweighted terms, `gradient_norm`,
      `weight_norm`, `finite`, which is 0 for a step that was left out, and `slots` with a ladder.
    """
    objects = batch['objects']
    ladder = ladder or (objects.shape[1],)
    # The last slot in use decides.
    needed = jnp.where(objects.any(axis=0), jnp.arange(1, objects.shape[1] + 1), 0).max()
    chosen = (needed > np.array(ladder[:-1], int)).sum()
    branches = [functools.partial(gradient_of, objective, slots=slots) for slots in ladder]
    batch_stats, (loss, terms, gradients) = lax.switch(chosen, branches, state, batch)
    norm = _norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = _averaged(state, params, objective.training.ema_decay)
    new_state = TrainState(state.step, params, batch_stats, ema, opt_state)
    new_state = jax.tree.map(functools.partial(lax.select, finite), new_state, state)
    metrics = {'loss': loss, **terms, 'gradient_norm': norm}
    metrics['weight_norm'] = _norm(new_state.params)
    metrics['finite'] = finite.astype(jnp.float32)
    if len(ladder) > 1:
        metrics['slots'] = jnp.asarray(ladder, jnp.float32)[chosen]
    return new_state.replace(step=state.step + 1), metrics


def _norm(tree):
    """Norm of all values; vectors are joined, as one operation each takes long to compile."""
    leaves = jax.tree.leaves(tree)
    vectors = [leaf for leaf in leaves if leaf.ndim == 1]
    others = [leaf for leaf in leaves if leaf.ndim != 1]
    return optax.tree.norm([*others, jnp.concatenate(vectors)] if vectors else others)


def gradient_of(objective, state, batch, slots=None):
    """Batch statistics, and (loss, its terms, gradients) of a batch.

    With `training.accumulate` above 1 the batch is computed in up to that many parts, each a few
    clips of every device; loss and gradients are those of the whole batch, but for norms that use
    the statistics of their part ('bn'). Of the slots the first `slots` are computed, None: all;
    the others are not in use.
    """
    batch = {**batch, 'objects': batch['objects'][:, :slots]}
    num_parts = objective.training.accumulate
    with objective.constraints.context():
        if num_parts == 1:
            return _of_part(objective, state, batch, None, state.step)
        return _of_parts(objective, state, split(batch, num_parts), objective.totals_of(batch))


def _of_part(objective, state, part, totals, draw):
    function = jax.value_and_grad(objective.loss_of, has_aux=True)
    (loss, (terms, batch_stats)), gradients = function(state.params, state, part, totals, draw)
    return batch_stats, (loss, terms, objective.constraints.parts(gradients))


def _of_parts(objective, state, parts, totals):
    """The sums over parts [N, B / N, ...] that see the batch statistics of one another."""
    add = functools.partial(_add, objective, state, totals)
    first = jax.tree.map(lambda x: x[0], parts)
    of_part = functools.partial(_of_part, objective)
    shapes = jax.eval_shape(of_part, state, first, totals, state.step)[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    numbered = jnp.arange(objective.training.accumulate), parts
    carry = state.batch_stats, zeros
    return jax.lax.scan(add, carry, numbered, unroll=objective.training.unrolled)[0]


def _add(objective, state, totals, carry, numbered):
    """Adds the share of one part: the body of the scan."""
    (batch_stats, sums), (number, part) = carry, numbered
    state = state.replace(batch_stats=batch_stats)
    draw = state.step * objective.training.accumulate + number  # each drops features of its own
    batch_stats, shares = _of_part(objective, state, part, totals, draw)
    return (batch_stats, jax.tree.map(jnp.add, sums, shares)), None


def split(batch, num_parts):
    """[B, ...] -> [parts, B / parts, ...]: each device, which has some clips, splits its own.

    Raises:
      InputError: where the parts do not divide the batch.
    """

    def split(x):
        if x.shape[0] % num_parts:
            raise InputError(
                f"'training.accumulate' is {num_parts}, which does not divide the batch of "
                f'{x.shape[0]} clips'
            )
        return jnp.moveaxis(x.reshape(-1, num_parts, *x.shape[1:]), 1, 0)

    return jax.tree.map(split, batch)


def _averaged(state, params, decay):
    """The moving average with the new parameters in it."""
    if not state.ema:
        return state.ema
    # Follows quickly at first: an average over the random start would lag for long.
    keep = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, state.ema, params)
