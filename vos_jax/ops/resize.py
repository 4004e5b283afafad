"""Resizing on fixed grids, written as shifts and weighted sums.

`jax.image.resize` is lowered to matrix products over whole rows and columns; a sum of two shifted
copies needs less work and keeps an image that is sharded over its rows sharded.
"""

import jax.numpy as jnp
from jax import lax


def upsample(x, factor):
    """Enlarges [N, h, w, C] bilinearly by a whole factor; half-pixel centres, edges repeated."""
    return _upsample_axis(_upsample_axis(x, factor, 1), factor, 2)


def _upsample_axis(x, factor, axis):
    if factor == 1:
        return x
    size = x.shape[axis]
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    last = lax.slice_in_dim(x, size - 1, size, axis=axis)
    before = jnp.concatenate([first, lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis=axis)
    after = jnp.concatenate([lax.slice_in_dim(x, 1, size, axis=axis), last], axis=axis)
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        neighbour = before if offset < 0 else after
        phases.append((1 - abs(offset)) * x + abs(offset) * neighbour)
    stacked = jnp.stack(phases, axis=axis + 1)
    shape = x.shape[:axis] + (factor * size,) + x.shape[axis + 1 :]
    return stacked.reshape(shape)


def cell_means(x, cell):
    """Means over square cells: [N, C, H, W], multiples of `cell` -> [N, C, H / cell, W / cell]."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // cell, cell, width // cell, cell)
    return cells.mean(axis=(3, 5))
