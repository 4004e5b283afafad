"""3x3 convolution by Winograd's algorithm F(4x4, 3x3), for CPUs (Lavin and Gray, CVPR 2016).

Each 4x4 tile of the result needs 36 products per pair of channels instead of 144. The transforms
are sums over six rows and six columns; what is left is 36 matrix products. The error is that of a
plain convolution in float32: about 2e-6 of the largest value. Gains 40 % of a frame of GIEL.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vos_jax.ops.cpu import switch

TILE = 4
SIDE = TILE + 2
TILES_OF_BAND = 400
MOST_BANDS = 8  # each is compiled by itself
MOST_IMAGES = 6  # not tried with more
# Points at which the polynomials are evaluated, beside infinity. With 0, +-1, +-2 of the paper the
# largest error is five times as large.
POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))


def _matrices():
    """Toom-Cook: (input [6, 6], kernel [6, 3], output [4, 6]) transforms."""
    points = np.array(POINTS)
    others = [np.delete(points, index) for index in range(len(points))]
    inputs = np.zeros((SIDE, SIDE))
    for index, rest in enumerate(others):
        inputs[index, :-1] = np.poly(rest)[::-1]
    inputs[-1] = np.poly(points)[::-1]
    kernel = np.zeros((SIDE, 3))
    for index, rest in enumerate(others):
        kernel[index] = points[index] ** np.arange(3) / np.prod(points[index] - rest)
    kernel[-1, -1] = 1.0
    output = np.zeros((TILE, SIDE))
    output[:, :-1] = points ** np.arange(TILE)[:, None]
    output[-1, -1] = 1.0
    return inputs, kernel, output


INPUT, KERNEL, OUTPUT = _matrices()
# [36 (column, row), 9 (row, column)]: both axes at once, the columns first as in `_convolve`.
KERNEL_2D = np.einsum('bj,ai->baij', KERNEL, KERNEL).reshape(SIDE**2, 9).astype(np.float32)


def pays(x, kernel, settings):
    """Whether this takes less time than a plain convolution (two CPU cores, 64 to 512 channels).

    With fewer tiles than channels, transforming the kernel takes longer than what is gained.
    """
    images, height, width, _ = x.shape
    *size, channels, outputs = kernel.shape
    if settings != (1, 1, 1) or x.dtype != jnp.float32 or not switch.has('winograd'):
        return False
    wide = size == [3, 3] and min(channels, outputs) >= 64
    return wide and images <= MOST_IMAGES and height * width >= TILE**2 * outputs


@jax.custom_vjp
def conv2d(x, kernel):
    """`conv3x3` on CPUs, a plain convolution elsewhere, whose gradients both have."""
    return switch.on_cpu('winograd', conv3x3, _plain, x, kernel)


def _plain(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _backward(residuals, cotangent):
    x, kernel = residuals
    # The transposes alone: with `jax.vjp` the program would hold the forward pass again.
    (to_x,) = jax.linear_transpose(lambda x: _plain(x, kernel), x)(cotangent)
    (to_kernel,) = jax.linear_transpose(lambda kernel: _plain(x, kernel), kernel)(cotangent)
    return to_x, to_kernel


conv2d.defvjp(lambda x, kernel: (conv2d(x, kernel), (x, kernel)), _backward)


def conv3x3(x, kernel):
    """Convolution of f32[N, H, W, C] by f32[3, 3, C, D], stride 1, padding 1 -> f32[N, H, W, D]."""
    images, height, width, _ = x.shape
    channels, outputs = kernel.shape[2:]
    kernel = (KERNEL_2D @ kernel.reshape(9, -1)).reshape(SIDE * SIDE, channels, outputs)
    rows, columns = -(-height // TILE), -(-width // TILE)
    # The last tiles may reach beyond the image.
    below, right = rows * TILE + 1 - height, columns * TILE + 1 - width
    x = jnp.pad(x, ((0, 0), (1, below), (1, right), (0, 0)))
    # In bands the transformed tiles, 36 / 16 of the image, stay in the cache.
    bands = round(images * rows * columns / TILES_OF_BAND)
    step = -(-rows // min(max(bands, 1), MOST_BANDS))
    parts = [
        _convolve(x[:, TILE * first : TILE * (first + step) + 2], kernel)
        for first in range(0, rows, step)
    ]
    return jnp.concatenate(parts, axis=1)[:, :height, :width]


def _convolve(x, kernel):
    """A padded band [N, 4 h + 2, 4 w + 2, C] -> [N, 4 h, 4 w, D]."""
    rows = jnp.stack(_combined(INPUT, _strided(x, axis=1)))
    # Without the barrier the sums over rows are computed again for each of the six columns.
    rows = lax.optimization_barrier(rows)  # [6, N, h, 4 w + 2, C]
    cells = jnp.stack(_combined(INPUT, _strided(rows, axis=3)))  # [6, 6, N, h, w, C]
    _, _, batch, height, width, channels = cells.shape
    products = jnp.einsum(
        'apc,acd->apd',
        cells.reshape(SIDE * SIDE, -1, channels),
        kernel,
    ).reshape(SIDE, SIDE, batch, height, width, -1)
    columns = _combined(OUTPUT, list(products))  # 4 of [6, N, h, w, D]
    tiles = [jnp.stack(_combined(OUTPUT, list(column)), axis=2) for column in columns]
    return jnp.stack(tiles, axis=4).reshape(batch, height * TILE, width * TILE, -1)


def _strided(x, axis):
    """Its values at 0, 4, 8, ... of an axis, at 1, 5, 9, ..., up to 5, 9, ...: six arrays."""
    last = x.shape[axis] - SIDE
    return [lax.slice_in_dim(x, start, start + last + 1, TILE, axis=axis) for start in range(SIDE)]


def _combined(matrix, arrays):
    """Matrix times vector of arrays; zeros cost nothing."""
    return [
        sum(float(factor) * array for factor, array in zip(row, arrays) if factor) for row in matrix
    ]
