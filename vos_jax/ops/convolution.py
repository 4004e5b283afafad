"""Convolutions of channels-last images with zeros around; on CPUs by the repairs of `ops.cpu`."""

from vos_jax.ops.cpu import convolution as on_cpus
from vos_jax.ops.cpu import depthwise as depthwise_on_cpus
from vos_jax.ops.cpu import switch


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
