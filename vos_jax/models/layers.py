"""Convolutions and norms of all models.

Kernels have the shape [kh, kw, in, out]; names of parameters are a file format.
"""

import flax.linen as nn
import jax.numpy as jnp

from vos_jax.models.encoder_spec import NORM_GROUPS, NORMS
from vos_jax.ops import resize
from vos_jax.ops.convolution import conv2d


class Conv1x1(nn.Module):
    """1x1 convolution written as a matrix product.

    XLA's weight gradient of a 1x1 convolution is up to ten times slower on CPUs than that of the
    matrix product; the forward pass takes the same time.
    """

    features: int
    stride: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [..., h, w, C] -> [..., h / stride, w / stride, features]."""
        kernel = self.param('kernel', self.kernel_init, (1, 1, x.shape[-1], self.features))
        bias = None
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = x[..., :: self.stride, :: self.stride, :]
        y = jnp.einsum('...c,cd->...d', x, kernel[0, 0])
        return y if bias is None else y + bias


class Conv(nn.Module):
    """Square convolution with the padding of PyTorch's `padding=dilation * (size - 1) / 2`."""

    features: int
    size: int = 3
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> [N, h / stride, w / stride, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        padding = self.dilation * (self.size - 1) // 2
        y = conv2d(x, kernel, self.stride, padding, self.dilation)
        return y if bias is None else y + bias


def conv(features, size, stride=1, dilation=1, use_bias=True, *, dtype, name):
    """A convolution module of the given size; 1x1 ones are matrix products."""
    if size == 1:
        return Conv1x1(features, stride, use_bias, dtype=dtype, name=name)
    return Conv(features, size, stride, dilation, use_bias, dtype, name=name)


class ConcatConv(nn.Module):
    """3x3 convolution of two concatenated inputs, one of which is shared by all object slots.

    A convolution is linear, so conv([shared, own]) = conv(shared) + conv(own), and the first term
    is computed once per frame in place of once per object.
    """

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, shared, own):
        """shared: [B, h, w, C1]; own: [B, K, h, w, C2] -> [B, K, h, w, features]."""
        batch, slots, height, width, channels = own.shape
        total = shared.shape[-1] + channels
        kernel = self.param('kernel', nn.initializers.he_normal(), (3, 3, total, self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        shared, own, kernel, bias = nn.dtypes.promote_dtype(
            shared, own, kernel, bias, dtype=self.dtype
        )
        first = conv2d(shared, kernel[:, :, : shared.shape[-1]])
        second = conv2d(
            own.reshape(batch * slots, height, width, channels), kernel[:, :, shared.shape[-1] :]
        )
        second = second.reshape(batch, slots, height, width, self.features)
        return first[:, None] + second + bias


class FrozenBatchNorm(nn.Module):
    """BatchNorm with stored statistics, epsilon 1e-5.

    With `frozen_affine` scale and bias are constants too (collection `batch_stats`), as is usual
    with Mask R-CNN weights; otherwise they are parameters.
    """

    frozen_affine: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]

        def constant(name, value):
            variable = self.variable('batch_stats', name, jnp.full, (channels,), value, jnp.float32)
            return variable.value

        if self.frozen_affine:
            scale, bias = constant('scale', 1.0), constant('bias', 0.0)
        else:
            scale = self.param('scale', nn.initializers.ones, (channels,))
            bias = self.param('bias', nn.initializers.zeros, (channels,))
        mean, variance = constant('mean', 0.0), constant('var', 1.0)
        scale = scale / jnp.sqrt(variance + self.epsilon)
        # One multiplication and one addition per value, in float32 whatever the compute dtype.
        return (x * scale + (bias - mean * scale)).astype(x.dtype)


class Norm(nn.Module):
    """The norm that a config names: 'frozen_bn', 'fixed_bn', 'bn' or 'gn'.

    'frozen_bn': nothing is trained. 'fixed_bn': fixed statistics, trained scale and bias.
    'bn': batch statistics in training. 'gn': GroupNorm, for training from nothing. Statistics are
    float32 whatever the compute dtype. `mask` ([...], True where a row counts) keeps unused object
    slots out of the batch statistics.
    """

    kind: str
    groups: int = NORM_GROUPS

    @nn.compact
    def __call__(self, x, train=False, mask=None):
        if self.kind == 'frozen_bn':
            return FrozenBatchNorm(name='bn')(x)
        if self.kind == 'fixed_bn':
            return FrozenBatchNorm(frozen_affine=False, name='bn')(x)
        if self.kind == 'bn':
            norm = nn.BatchNorm(
                use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=x.dtype, name='bn'
            )
            return norm(x, mask=mask)
        if self.kind == 'gn':
            return nn.GroupNorm(self.groups, epsilon=1e-5, dtype=x.dtype, name='gn')(x)
        raise ValueError(f'norm {self.kind!r} is not known; allowed: {", ".join(NORMS)}')


class ResBlock(nn.Module):
    """STM's residual block: ReLU before each 3x3 convolution, raw shortcut, no norm."""

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, features] -> the same shape."""
        y = conv(self.features, 3, dtype=self.dtype, name='conv1')(nn.relu(x))
        y = conv(self.features, 3, dtype=self.dtype, name='conv2')(nn.relu(y))
        return x + y


def upsample_to(x, height):
    """Bilinear enlargement of [N, h, w, C] to `height` rows, a multiple of h."""
    return resize.upsample(x, height // x.shape[1])
