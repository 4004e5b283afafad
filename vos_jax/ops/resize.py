"""Resizing written as shifts, or neighbours, and weighted sums.

`jax.image.resize` is lowered to matrix products over whole rows and columns; a sum of two shifted
copies needs less work and keeps an image that is sharded over its rows sharded.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
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


def linear(distance):
    """Weight of a neighbour at a distance in pixels, for `interpolate`."""
    return np.maximum(1 - distance, 0)


def cubic(distance):
    """The same, by Keys' kernel (1981) with a = -0.5, as of `jax.image.resize`."""
    near = ((1.5 * distance - 2.5) * distance) * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def interpolate(x, size, axes, kernel) -> jax.Array:
    """Interpolates between the four neighbours along each axis; half-pixel centres.

    Equals `jax.image.resize` where that enlarges; what it shrinks is not smoothed before.

    Args:
      x: f32 array.
      size: length of each of the `axes` in the result.
      axes: of `x`, as many as in `size`.
      kernel: `linear` or `cubic`.
    """
    for length, axis in zip(size, axes, strict=True):
        if length == x.shape[axis]:
            continue
        places = (np.arange(length) + 0.5) * x.shape[axis] / length - 0.5
        neighbours = np.floor(places).astype(int)[:, None] + np.arange(-1, 3)
        weights = kernel(np.abs(places[:, None] - neighbours))
        weights *= (neighbours >= 0) & (neighbours < x.shape[axis])
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        neighbours = neighbours.clip(0, x.shape[axis] - 1)
        shape = np.ones(x.ndim, int)
        shape[axis] = length
        parts = [
            jnp.take(x, at, axis=axis) * weight.reshape(shape)
            for at, weight in zip(neighbours.T, weights.T)
            if weight.any()
        ]
        x = functools.reduce(operator.add, parts)
    return x
