"""Resizing by the rules of the released CFBI code: one small matrix, or index, for each axis.

`jax.image.resize` has none of these rules, and CFBI's results depend on each of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

CUBIC = -0.75  # the coefficient of PyTorch and OpenCV


@functools.lru_cache(maxsize=256)
def linear_weights(size, new_size):
    """Bilinear interpolation with aligned corners: the outermost centres stay where they are.

    Gives f32[new_size, size], whose rows sum to 1.

    >>> linear_weights(2, 3)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    source = _aligned(size, new_size)
    low = np.floor(source).astype(int)
    share = source - low
    return _matrix(size, [low, low + 1], [1.0 - share, share])


@functools.lru_cache(maxsize=256)
def cubic_weights(size, new_size, aligned=True):
    """Cubic interpolation (a = -0.75), border pixels repeated, no smoothing when shrinking.

    `aligned`: corners, as PyTorch's `align_corners`; else half-pixel centres, as OpenCV. Gives
    f32[new_size, size], whose rows sum to 1.
    """
    if aligned:
        source = _aligned(size, new_size)
    else:
        source = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    low = np.floor(source).astype(int)
    t = source - low
    taps = [_far_tap(1.0 + t), _near_tap(t), _near_tap(1.0 - t), _far_tap(2.0 - t)]
    return _matrix(size, [low - 1, low, low + 1, low + 2], taps)


def _aligned(size, new_size):
    ratio = (size - 1) / (new_size - 1) if new_size > 1 else 0.0
    return np.arange(new_size) * ratio


def _near_tap(t):
    return (CUBIC + 2.0) * t**3 - (CUBIC + 3.0) * t**2 + 1.0


def _far_tap(t):
    return CUBIC * (t**3 - 5.0 * t**2 + 8.0 * t - 4.0)


def _matrix(size, indices, weights):
    matrix = np.zeros((len(indices[0]), size))
    rows = np.arange(len(matrix))
    for index, weight in zip(indices, weights, strict=True):
        np.add.at(matrix, (rows, np.clip(index, 0, size - 1)), weight)
    return matrix.astype(np.float32)


def resize(x, size, weights=linear_weights):
    """Resizes channels-last images [..., h, w, C] to `size` (height, width), in float32.

    `weights`: `linear_weights` or `cubic_weights`, or another function of two sizes.
    """
    x = x.astype(jnp.float32)
    if x.shape[-3] != size[0]:
        x = contract('oi,...iwc->...owc', weights(x.shape[-3], size[0]), x)
    if x.shape[-2] != size[1]:
        x = contract('oi,...hic->...hoc', weights(x.shape[-2], size[1]), x)
    return x


def resize_maps(x, size, weights=linear_weights):
    """Resizes maps [..., h, w] to f32[..., height, width]; see `resize`."""
    return resize(x[..., None], size, weights)[..., 0]


def contract(equation, matrix, x):
    """Einsum of an interpolation matrix and maps."""
    # Full precision: bfloat16 products would move a border by a tenth of a pixel.
    return jnp.einsum(equation, matrix, x, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=256)
def nearest_indices(size, new_size):
    """PyTorch's nearest rule without half-pixel shift: min(floor(i * size/new_size), size - 1).

    >>> nearest_indices(5, 3)
    array([0, 1, 3])
    """
    ratio = np.float32(size / new_size)
    index = np.floor(np.arange(new_size, dtype=np.float32) * ratio).astype(int)
    return np.minimum(index, size - 1)


def nearest(x, size):
    """Resizes label maps or masks [..., h, w] by `nearest_indices`."""
    x = jnp.take(x, nearest_indices(x.shape[-2], size[0]), axis=-2)
    return jnp.take(x, nearest_indices(x.shape[-1], size[1]), axis=-1)
