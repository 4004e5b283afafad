"""3x3 convolution by Winograd's algorithm F(4x4, 3x3), for CPUs (Lavin and Gray, CVPR 2016).

Each 4x4 tile of the result needs 36 products per pair of channels instead of 144. The transforms
are sums over six rows and six columns; what is left is 36 matrix products. The error is that of a
plain convolution in float32: about 2e-6 of the largest value. The gradients take the same way.
Gains 40 % of a frame of GIEL, 65 % of a train step of STM.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vos_jax.ops.cpu import gradients, switch

SETTINGS = (1, 1, 1)  # stride, padding, dilation
TILE = 4
SIDE = TILE + 2
TILES_OF_BAND = 800
MOST_BANDS = 8  # each is compiled by itself
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
# Both axes at once, the columns first: [36, 9 (row, column)] and [16, 36].
KERNEL_2D = np.einsum('bj,ai->baij', KERNEL, KERNEL).reshape(SIDE**2, 9).astype(np.float32)
OUTPUT_2D = np.einsum('bj,ai->baji', OUTPUT, OUTPUT).reshape(TILE**2, -1).astype(np.float32)


def pays(x, kernel, settings):
    """Whether this takes less time than a plain convolution (two CPU cores, 64 to 1,024 channels).

    With fewer pixels than channels, transforming the kernel takes longer than what is gained.
    """
    images, height, width, _ = x.shape
    *size, channels, outputs = kernel.shape
    if settings != SETTINGS or x.dtype != jnp.float32 or not switch.has('winograd'):
        return False
    wide = size == [3, 3] and min(channels, outputs) >= 64
    return wide and (images * height * width) ** 2 >= channels * outputs


@jax.custom_vjp
def conv2d(x, kernel):
    """`conv3x3` on CPUs, a plain convolution elsewhere; so are the gradients."""
    return switch.on_cpu('winograd', conv3x3, _plain, x, kernel)


def _backward(residuals, cotangent):
    return switch.on_cpu('winograd', _gradients, _plain_gradients, *residuals, cotangent)


conv2d.defvjp(lambda x, kernel: (conv2d(x, kernel), (x, kernel)), _backward)
_plain = functools.partial(gradients.plain, settings=SETTINGS)
_plain_gradients = functools.partial(gradients.plain_gradients, settings=SETTINGS)


@jax.jit
def conv3x3(x, kernel):
    """Convolution of f32[N, H, W, C] by f32[3, 3, C, D], stride 1, padding 1 -> f32[N, H, W, D]."""
    return _convolve(x, _of_kernel(KERNEL_2D, kernel), 'apc,acd->apd')


@jax.jit
def _gradients(x, kernel, cotangent):
    """Of `conv3x3`, by x and by the kernel."""
    # The image gradient is the convolution of the cotangent with the kernel turned around.
    to_x = _convolve(cotangent, _of_kernel(KERNEL_2D[:, ::-1], kernel), 'apd,acd->apc')
    products = sum(
        jnp.einsum('apc,apd->acd', _of_image(image), _of_result(result))
        for image, result in zip(_bands(x, 1), _bands(cotangent, 0), strict=True)
    )
    return to_x, (KERNEL_2D.T @ products.reshape(SIDE**2, -1)).reshape(kernel.shape)


def _convolve(x, kernel, form):
    """[N, H, W, C] by a transformed kernel, multiplied as `form` says -> [N, H, W, D]."""
    parts = []
    for band in _bands(x, 1):
        batch, height, width = band.shape[0], *(side // TILE - 1 for side in band.shape[1:3])
        products = jnp.einsum(form, _of_image(band), kernel)
        tiles = OUTPUT_2D @ products.reshape(SIDE**2, -1)
        tiles = tiles.reshape(TILE, TILE, batch, height, width, -1).transpose(2, 3, 1, 4, 0, 5)
        parts.append(tiles.reshape(batch, height * TILE, width * TILE, -1))
    return jnp.concatenate(parts, axis=1)[:, : x.shape[1], : x.shape[2]]


def _bands(x, reach):
    """Strips of whole tiles of [N, H, W, C]; with `reach` 1 a pixel before and a tile behind them.

    In bands the transformed tiles, 36 / 16 of the image, stay in the cache.
    """
    images, height, width, _ = x.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    # The last tiles may reach beyond the image.
    below, right = (rows + reach) * TILE - height, (columns + reach) * TILE - width
    x = jnp.pad(x, ((0, 0), (reach, below - reach), (reach, right - reach), (0, 0)))
    bands = round(images * rows * columns / TILES_OF_BAND)
    step = -(-rows // min(max(bands, 1), MOST_BANDS))
    return [x[:, TILE * first : TILE * (first + step + reach)] for first in range(0, rows, step)]


def _of_kernel(matrix, kernel):
    """Kernel [3, 3, C, D] -> [36, C, D]."""
    return (matrix @ kernel.reshape(9, -1)).reshape(SIDE**2, *kernel.shape[2:])


def _of_image(x):
    """6x6 tiles, 4 pixels apart, of [N, 4 h + 4, 4 w + 4, C] -> [36, N h w, C]."""
    images, height, width, channels = x.shape
    # Rows, then columns, of a tile are one axis with the channels: its parts are contiguous, which
    # compiles faster than slices with strides.
    rows = _transformed(x.reshape(images, height // TILE, TILE * width * channels))
    # Without the barrier the sums over rows are computed again for each of the six columns.
    rows = lax.optimization_barrier(rows)  # [6, N, h, (4 w + 4) C]
    columns = _transformed(rows.reshape(-1, width // TILE, TILE * channels))
    return columns.reshape(SIDE**2, -1, channels)


def _transformed(x):
    """INPUT times six parts of each of t places and the next: [n, t + 1, 4 m] -> [6, n, t, m]."""
    count, places, size = x.shape[0], x.shape[1] - 1, x.shape[2] // TILE
    parts = [
        lax.slice(x, (0, i, j * size), (count, i + places, (j + 1) * size))
        for i, j in (divmod(index, TILE) for index in range(SIDE))
    ]
    sums = [
        sum(float(factor) * part for factor, part in zip(row, parts) if factor) for row in INPUT
    ]
    return jnp.stack(sums)


def _of_result(x):
    """4x4 tiles of [N, 4 h, 4 w, D], by the transpose of the output's transform: [36, N h w, D]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // TILE, TILE, width // TILE, TILE, channels)
    x = x.transpose(4, 2, 0, 1, 3, 5).reshape(TILE**2, -1)
    return (OUTPUT_2D.T @ x).reshape(SIDE**2, -1, channels)
