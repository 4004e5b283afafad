"""The gradient of a batch, at once or in parts that are added up (gradient accumulation)."""

import functools

import jax
import jax.numpy as jnp

from vos_jax.errors import InputError


def gradient_of(objective, state, batch):
    """Batch statistics, and (loss, its terms, gradients) of a batch.

    With `training.accumulate` above 1 the batch is computed in up to that many parts, each a few
    clips of every device; loss and gradients are those of the whole batch, but for norms that use
    the statistics of their part ('bn').
    """
    num_parts = objective.training.accumulate
    with objective.constraints.context():
        if num_parts == 1:
            return _of_part(objective, state, batch, None, state.step)
        parts = split(batch, num_parts)
        return _of_parts(objective, state, parts, objective.totals_of(batch))


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
