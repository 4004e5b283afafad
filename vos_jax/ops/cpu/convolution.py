"""2-D convolution that is quick on CPUs: wide 3x3 kernels, and the weight gradient."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from vos_jax.ops.cpu import switch, winograd

MAX_PIECES = 16
# From so many output channels and pixels on the weight gradient is quicker sample by sample on a
# CPU: 1.2 to 5 times (3x3, 24 to 96 channels, 4 and 12 samples, 24x36 to 96x144). With 16 output
# channels and fewer it takes 3 to 12 times as long, and small images gain nothing.
BY_SAMPLE_CHANNELS, BY_SAMPLE_PIXELS = 24, 600


def plain(x, kernel, settings):
    """XLA's convolution; arguments as for `conv2d`."""
    stride, padding, dilation = settings
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def pays(x, kernel, settings):
    """Whether `conv2d` is quicker than `plain`, forward or backward, and switched on."""
    return _takes_winograd(x, kernel, settings) or _has_large_result(x, kernel, settings)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv2d(x, kernel, settings):
    """`convolution.conv2d` with settings (stride, padding, dilation)."""
    convolve = functools.partial(plain, settings=settings)
    if not _takes_winograd(x, kernel, settings):
        return convolve(x, kernel)
    return switch.on_cpu('winograd', winograd.conv3x3, convolve, x, kernel)


def _takes_winograd(x, kernel, settings):
    regular = settings == (1, 1, 1) and x.dtype == jnp.float32
    return regular and switch.has('winograd') and winograd.pays(x.shape, kernel.shape)


def _has_large_result(x, kernel, settings):
    # The samples may be on several devices: pieces of the batch would be sent around.
    if not switch.has('weight_gradient') or jax.sharding.get_abstract_mesh().size > 1:
        return False
    shape = jax.eval_shape(functools.partial(plain, settings=settings), x, kernel).shape
    _, height, width, channels = shape
    return channels >= BY_SAMPLE_CHANNELS and height * width >= BY_SAMPLE_PIXELS


def _forward(x, kernel, settings):
    return conv2d(x, kernel, settings), (x, kernel)


def _backward(settings, residuals, cotangent):
    x, kernel = residuals
    convolve = functools.partial(plain, settings=settings)

    def weight_gradient(x, cotangent):
        return _transposed(lambda k: convolve(x, k), kernel, cotangent)

    def weight_gradient_by_sample(x, cotangent):
        pieces = min(x.shape[0], MAX_PIECES)
        size = -(-x.shape[0] // pieces)
        return sum(
            weight_gradient(x[i : i + size], cotangent[i : i + size])
            for i in range(0, x.shape[0], size)
        )

    if _has_large_result(x, kernel, settings):
        kernel_gradient = switch.on_cpu(
            'weight_gradient', weight_gradient_by_sample, weight_gradient, x, cotangent
        )
    else:
        kernel_gradient = weight_gradient(x, cotangent)
    return _transposed(lambda a: convolve(a, kernel), x, cotangent), kernel_gradient


def _transposed(function, like, cotangent):
    """The transpose alone: with `jax.vjp` the program would hold the forward pass again."""
    return jax.linear_transpose(function, like)(cotangent)[0]


conv2d.defvjp(_forward, _backward)
