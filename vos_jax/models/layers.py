"""Convolutions and norms of all models.

Kernels have the shape [kh, kw, in, out]; names of parameters are a file format.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vos_jax.models.encoder_spec import NORMS
from vos_jax.ops.convolution import conv2d, depthwise, pointwise

EPSILON = 1e-5  # of all norms


class Affine(NamedTuple):
    """What a norm with stored statistics does: x * factor + summand, f32[C] each."""

    factor: jax.Array
    summand: jax.Array


def kernel_and_bias(module, init, shape, use_bias=False, norm=None):
    """Kernel, and bias or None, of a convolution, with a norm (Affine) folded into them.

    `shape`: of the kernel, output channels last. A bias that `fold` made is used anyway.
    """
    kernel, bias = module.param('kernel', init, shape), None
    if use_bias or module.has_variable('params', 'bias'):
        bias = module.param('bias', nn.initializers.zeros, shape[-1:])
    if norm is None:
        return kernel, bias
    bias = norm.summand if bias is None else bias * norm.factor + norm.summand
    return kernel * norm.factor, bias


class Conv(nn.Module):
    """Square convolution with the padding of PyTorch's `padding=dilation * (size - 1) / 2`."""

    features: int
    size: int = 3
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    padding: int | None = None  # instead of PyTorch's

    @nn.compact
    def __call__(self, x, norm=None):
        """x: [N, h, w, C], of size 1 [..., h, w, C]; norm: Affine or None -> [..., features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel, bias = kernel_and_bias(self, self.kernel_init, shape, self.use_bias, norm)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.size == 1:
            x = x[..., :: self.stride, :: self.stride, :]
            y = pointwise(x, kernel[0, 0])
        else:
            same = self.dilation * (self.size - 1) // 2
            padding = same if self.padding is None else self.padding
            y = conv2d(x, kernel, self.stride, padding, self.dilation)
        return y if bias is None else y + bias


class Depthwise(nn.Module):
    """Convolution of each channel by itself, with bias and the padding that lax calls 'SAME'."""

    size: int = 3
    stride: int = 1
    dilation: int = 1
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    between: tuple = ()  # axes of size 1 that the stored kernel has before its channels

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> [N, h / stride, w / stride, C]."""
        shape = (self.size, self.size, *self.between, x.shape[-1])
        kernel, bias = kernel_and_bias(self, self.kernel_init, shape, use_bias=True)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        kernel = kernel.reshape(self.size, self.size, -1)
        return depthwise(x, kernel, self.stride, self.dilation) + bias


class ConcatConv(nn.Module):
    """3x3 convolution of two concatenated inputs, one of which is shared by all object slots.

    A convolution is linear, so conv([shared, own]) = conv(shared) + conv(own), and the first term
    is computed once per frame instead of once per object.
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
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, channels):
        """Affine of a number of channels, float32 whatever the compute dtype."""

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
        return Affine(scale, bias - mean * scale)


class Norm(nn.Module):
    """The norm that a config names: 'frozen_bn', 'fixed_bn', 'bn' or 'gn'.

    'frozen_bn': nothing is trained. 'fixed_bn': fixed statistics, trained scale and bias.
    'bn': batch statistics in training. 'gn': GroupNorm, for training from scratch. Statistics are
    float32 whatever the compute dtype. `mask` ([...], True where a row counts) keeps unused object
    slots out of the batch statistics.

    `of` is the convolution (a module) whose result is normed: the norm of `of(*inputs)`. What is
    stored is folded into its kernel, also in training where nothing of the norm is trained: the
    convolution's result is not read and written once more. Variables that `fold` made have
    no such norm left.
    """

    kind: str
    groups: int = 8

    @nn.compact
    def __call__(self, *inputs, train=False, mask=None, of=None):
        if self.kind not in NORMS:
            raise ValueError(f'norm {self.kind!r} is not known; allowed: {", ".join(NORMS)}')
        is_gone = not (self.is_initializing() or self.has_variable('batch_stats', 'bn'))
        if is_gone and of is not None and self.kind != 'gn' and of.has_variable('params', 'bias'):
            return of(*inputs)
        is_frozen = self.kind == 'frozen_bn'
        if of is not None and (is_frozen or (self.kind == 'fixed_bn' and not train)):
            return of(*inputs, norm=FrozenBatchNorm(is_frozen, name='bn')(of.features))
        x = of(*inputs) if of is not None else inputs[0]
        if self.kind in ('frozen_bn', 'fixed_bn'):
            factor, summand = FrozenBatchNorm(is_frozen, name='bn')(x.shape[-1])
            return (x * factor + summand).astype(x.dtype)
        if self.kind == 'bn':
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=EPSILON,
                dtype=x.dtype,
                name='bn',
            )
            return norm(x, mask=mask)
        return nn.GroupNorm(self.groups, epsilon=EPSILON, dtype=x.dtype, name='gn')(x)


class ResBlock(nn.Module):
    """STM's residual block: ReLU before each 3x3 convolution, raw shortcut, no norm."""

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, features] -> the same shape."""
        y = Conv(self.features, 3, dtype=self.dtype, name='conv1')(nn.relu(x))
        y = Conv(self.features, 3, dtype=self.dtype, name='conv2')(nn.relu(y))
        return x + y


def fold(variables):
    """Puts each batch norm into the convolution before it: 'norm1' into 'conv1' beside it.

    The model applied to the result gives the same, without the norms: a ResNet-50 of frozen norms
    has a third of the arrays to hand to each call. Training needs the variables as they were.

    Args:
      variables: nested dict of arrays, of any model.

    Returns:
      The nested dict with kernels and biases of NumPy instead of norms; `variables` itself where
      there is nothing to fold.
    """
    arrays = traverse_util.flatten_dict(variables)
    norms = [path[1:-1] for path in arrays if path[0] == 'batch_stats' and path[-1] == 'mean']
    pairs = [(norm, (*norm[:-2], norm[-2].replace('norm', 'conv'))) for norm in norms]
    pairs = [(norm, conv) for norm, conv in pairs if ('params', *conv, 'kernel') in arrays]
    for norm, conv in pairs:
        stored = {
            path[-1]: np.asarray(arrays.pop(path), np.float64)
            for path in [*arrays]
            if path[1:-1] == norm
        }
        factor = stored['scale'] / np.sqrt(stored['var'] + EPSILON)
        kernel, bias = ('params', *conv, 'kernel'), ('params', *conv, 'bias')
        summand = stored['bias'] + (np.asarray(arrays.get(bias, 0.0)) - stored['mean']) * factor
        arrays[kernel] = (np.asarray(arrays[kernel]) * factor).astype(np.float32)
        arrays[bias] = summand.astype(np.float32)
    return traverse_util.unflatten_dict(arrays) if pairs else variables
