"""The train step: a function of (state, batch), everything static bound before it is compiled."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from vos_jax.compilation import with_products
from vos_jax.training import accumulate
from vos_jax.training.objective import Objective
from vos_jax.training.sharding import Constraints


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
      step: i32 scalar, steps done.
      params, batch_stats: the model's variables; batch_stats may be empty.
      ema: moving average of `params`, or an empty dict.
      opt_state: the optimizer's state.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    ema: dict
    opt_state: optax.OptState

    def variables(self, averaged=True):
        """The model's variables; with `averaged` the moving average where there is one."""
        params = self.ema if averaged and self.ema else self.params
        return {'params': params, **({'batch_stats': self.batch_stats} if self.batch_stats else {})}


def init_state(model, optimizer, shapes, key, ema):
    """A random TrainState.

    Args:
      shapes: dict(frames=, labels=, objects=) of one batch, arrays or their shapes.
      ema: whether a moving average of the weights is kept.
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
        with with_products(config.precision):
            return train_step(objective, optimizer, state, batch, ladder)

    return step


def train_step(objective, optimizer, state, batch, ladder=None):
    """One step. Where loss or gradient is not finite, only the number of the step changes.

    Args:
      batch: dict(frames=u8[B, T, H, W, 3], labels=u8[B, T, H, W], objects=bool[B, K]).
      ladder: numbers of slots, of which the least that the batch needs is computed; None: K.

    Returns:
      The state after it, and a dict of f32 scalars: `loss`, its unweighted terms, `gradient_norm`,
      `weight_norm`, `finite`, which is 0 for a step that was left out, and `slots` with a ladder.
    """
    ladder = ladder or (batch['objects'].shape[1],)
    chosen = _choice(batch['objects'], ladder)
    branches = [functools.partial(_gradient_of, objective, slots) for slots in ladder]
    batch_stats, (loss, terms, gradients) = lax.switch(chosen, branches, state, batch)
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = _averaged(state, params, objective.training.ema_decay)
    new_state = TrainState(state.step, params, batch_stats, ema, opt_state)
    new_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state, state)
    metrics = {'loss': loss, **terms, 'gradient_norm': norm}
    metrics['weight_norm'] = optax.tree.norm(new_state.params)
    metrics['finite'] = finite.astype(jnp.float32)
    if len(ladder) > 1:
        metrics['slots'] = jnp.asarray(ladder, jnp.float32)[chosen]
    return new_state.replace(step=state.step + 1), metrics


def _choice(objects, ladder):
    """Place in the ladder of the slots that a batch needs: the last one in use decides."""
    needed = jnp.where(objects.any(axis=0), jnp.arange(1, objects.shape[1] + 1), 0).max()
    return (needed > np.array(ladder[:-1], int)).sum()


def _gradient_of(objective, slots, state, batch):
    """`accumulate.gradient_of` by the first slots alone; the others are not in use."""
    batch = {**batch, 'objects': batch['objects'][:, :slots]}
    return accumulate.gradient_of(objective, state, batch)


def _averaged(state, params, decay):
    """The moving average with the new parameters in it."""
    if not state.ema:
        return state.ema
    # Follows quickly at first: an average over the random start would lag for long.
    keep = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, state.ema, params)
