"""Convolutions of channels-last images with zeros around; on CPUs by the repairs of `ops.cpu`."""

import functools

import jax.numpy as jnp

from vos_jax.ops import align
from vos_jax.ops.cpu import atrous, resized, switch
from vos_jax.ops.cpu import convolution as on_cpus
from vos_jax.ops.cpu import depthwise as depthwise_on_cpus


def conv2d(x, kernel, stride=1, padding=1, dilation=1):
    """Convolution.

    Args:
      x: [N, H, W, C].
      kernel: [kh, kw, C, D], in the dtype of x.
      stride, padding, dilation: ints, the same for both axes.

    Returns:
      [N, H', W', D].
    """
    settings = (stride, padding, dilation)
    if on_cpus.pays(x, kernel, settings):
        return on_cpus.conv2d(x, kernel, settings)
    return on_cpus.plain(x, kernel, settings)


def depthwise(x, kernel, stride=1, dilation=1):
    """Depthwise convolution, with the padding that lax calls 'SAME'.

    Args:
      x: [N, H, W, C].
      kernel: [k, k, C], in the dtype of x.
      stride, dilation: ints, the same for both axes.

    Returns:
      [N, ceil(H / stride), ceil(W / stride), C].
    """
    if switch.has('depthwise'):
        return depthwise_on_cpus.depthwise(x, kernel, stride, dilation)
    return depthwise_on_cpus.plain(x, kernel, stride, dilation)


def atrous3x3(x, kernel, rate):
    """3x3 atrous convolution whose rate may be of the size of the map.

    Args:
      x: [N, h, w, C].
      kernel: [3, 3, C, D], in the dtype of x.
      rate: int >= 1.

    Returns:
      [N, h, w, D].
    """
    taps = functools.partial(atrous.convolve_taps, rate=rate)
    native = functools.partial(conv2d, padding=rate, dilation=rate)
    return switch.on_cpu('atrous', taps, native, x, kernel)


def resized3x3(small, other, kernel, weights=align.linear_weights):
    """3x3 convolution of [a map enlarged to the size of another, the other].

    Args:
      small: [N, h', w', C1]; other: [N, h, w, C2].
      kernel: [3, 3, C1 + C2, D]; all of one dtype.
      weights: as for `align.resize`.

    Returns:
      [N, h, w, D].
    """
    size, split = other.shape[1:3], small.shape[-1]

    def repaired(small, other, kernel):
        first = resized.convolve_resized(small, kernel[:, :, :split], size, weights)
        return first.astype(other.dtype) + conv2d(other, kernel[:, :, split:])

    def native(small, other, kernel):
        enlarged = align.resize(small, size, weights).astype(other.dtype)
        return conv2d(jnp.concatenate([enlarged, other], axis=-1), kernel)

    return switch.on_cpu('resized', repaired, native, small, other, kernel)
