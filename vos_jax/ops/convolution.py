"""Convolutions of channels-last images with zeros around; on CPUs by the repairs of `ops.cpu`."""

import jax.numpy as jnp

from vos_jax.ops.cpu import depthwise as depthwise_on_cpus
from vos_jax.ops.cpu import gradients, switch, winograd


def conv2d(x, kernel, stride=1, padding=1, dilation=1):
    """Convolution: x [N, H, W, C], kernel [kh, kw, C, D] in the dtype of x -> [N, H', W', D].

    Stride, padding and dilation are ints, the same for both axes.
    """
    settings = stride, padding, dilation
    if winograd.pays(x, kernel, settings):
        return winograd.conv2d(x, kernel)
    if x.dtype == jnp.float32 and switch.has('gradients'):
        return gradients.conv2d(x, kernel, settings)
    return gradients.plain(x, kernel, settings)


def pointwise(x, kernel):
    """1x1 convolution as a matrix product: x [..., C], kernel [C, D] in its dtype -> [..., D].

    XLA's weight gradient of a 1x1 convolution is up to ten times slower on CPUs; the forward pass
    takes the same time.
    """
    if x.dtype == jnp.float32 and switch.has('gradients'):
        return gradients.pointwise(x, kernel)
    return gradients.plain_product(x, kernel)


def depthwise(x, kernel, stride=1, dilation=1):
    """Depthwise convolution, with the padding that lax calls 'SAME'; ints as for `conv2d`.

    x [N, H, W, C], kernel [k, k, C] in the dtype of x -> [N, H', W', C], H' = ceil(H / stride).
    """
    if switch.has('depthwise'):
        return depthwise_on_cpus.depthwise(x, kernel, stride, dilation)
    return depthwise_on_cpus.plain(x, kernel, stride, dilation)
