"""2-D convolution that is quick on CPUs: wide 3x3 kernels, and the weight gradient."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from vos_jax.ops.cpu import winograd

MAX_PIECES = 16
# From so many output channels and pixels on the weight gradient is quicker sample by sample on a
# CPU: 1.2 to 5 times (3x3, 24 to 96 channels, 4 and 12 samples, 24x36 to 96x144, 2026-11-25). With
# 16 output channels and fewer it takes 3 to 12 times as long, and small images gain nothing.
BY_SAMPLE_CHANNELS, BY_SAMPLE_PIXELS = 24, 600


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv2d(x, kernel, stride=1, padding=1, dilation=1):
    """Convolution of channels-last images.

    Args:
      x: [N, H, W, C].
      kernel: [kh, kw, C, D].
      stride, padding, dilation: ints, the same for both axes; padding is with zeros.

    Returns:
      [N, H', W', D].
    """
    plain = functools.partial(_plain, stride=stride, padding=padding, dilation=dilation)
    regular = (stride, padding, dilation) == (1, 1, 1) and x.dtype == jnp.float32
    if not (regular and winograd.pays(x.shape, kernel.shape)):
        return plain(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=winograd.conv3x3, default=plain)


def _plain(x, kernel, stride, padding, dilation):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def _forward(x, kernel, stride, padding, dilation):
    return conv2d(x, kernel, stride, padding, dilation), (x, kernel)


def _backward(stride, padding, dilation, residuals, cotangent):
    x, kernel = residuals
    plain = functools.partial(_plain, stride=stride, padding=padding, dilation=dilation)

    # The transposes alone: with `jax.vjp` the program would hold the forward pass again.
    def weight_gradient(x, cotangent):
        return jax.linear_transpose(lambda k: plain(x, k), kernel)(cotangent)[0]

    def weight_gradient_by_sample(x, cotangent):
        pieces = min(x.shape[0], MAX_PIECES)
        size = -(-x.shape[0] // pieces)
        return sum(
            weight_gradient(x[i : i + size], cotangent[i : i + size])
            for i in range(0, x.shape[0], size)
        )

    _, height, width, channels = cotangent.shape
    is_large = channels >= BY_SAMPLE_CHANNELS and height * width >= BY_SAMPLE_PIXELS
    if not is_large or jax.sharding.get_abstract_mesh().size > 1:
        # The samples may lie on several devices: pieces of the batch would be sent around.
        kernel_gradient = weight_gradient(x, cotangent)
    else:
        kernel_gradient = lax.platform_dependent(
            x, cotangent, cpu=weight_gradient_by_sample, default=weight_gradient
        )
    image_gradient = jax.linear_transpose(lambda a: plain(a, kernel), x)(cotangent)[0]
    return image_gradient, kernel_gradient


conv2d.defvjp(_forward, _backward)
