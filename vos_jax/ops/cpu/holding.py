"""Keeping a value that XLA would compute again."""

import jax.numpy as jnp
from jax import lax

from vos_jax.ops.cpu import switch


def hold(x):
    """x itself, for inference: what uses it does not compute it again.

    On CPUs XLA computes a cheap value anew in each operation that uses it. In a chain of residual
    blocks each block then adds up all those before it: a quarter of the time of CFBI's encoder.
    XLA's optimization_barrier is gone before that is decided; a conditional stays.

    Args:
      x: floats of any shape; where the first is NaN, the result is NaN throughout.
    """

    def held(x):
        is_lost = jnp.isnan(x[(0,) * x.ndim])
        return lax.cond(is_lost, lambda x: x + jnp.nan, lambda x: x, x)

    return switch.on_cpu('hold', held, lambda x: x, x)
