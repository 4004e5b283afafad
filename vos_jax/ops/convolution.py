"""Convolutions of channels-last images with zeros around; on CPUs by the repairs of `ops.cpu`."""

from jax import lax

from vos_jax.ops.cpu import depthwise as depthwise_on_cpus
from vos_jax.ops.cpu import switch, winograd


def conv2d(x, kernel, stride=1, padding=1, dilation=1):
    """Convolution: x [N, H, W, C], kernel [kh, kw, C, D] in the dtype of x -> [N, H', W', D].

    Stride, padding and dilation are ints, the same for both axes.
    """
    if winograd.pays(x, kernel, (stride, padding, dilation)):
        return winograd.conv2d(x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def depthwise(x, kernel, stride=1, dilation=1):
    """Depthwise convolution, with the padding that lax calls 'SAME'; ints as for `conv2d`.

    x [N, H, W, C], kernel [k, k, C] in the dtype of x -> [N, H', W', C], H' = ceil(H / stride).
    """
    if switch.has('depthwise'):
        return depthwise_on_cpus.depthwise(x, kernel, stride, dilation)
    return depthwise_on_cpus.plain(x, kernel, stride, dilation)
