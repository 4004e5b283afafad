"""Parts of CFBI's head: group norm, gated channel transformation, gate, depthwise convolution."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vos_jax.models.layers import Conv
from vos_jax.ops.convolution import depthwise

EPSILON = 1e-5
FAN_OUT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
FAN_IN = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')


def conv(features, size=1, stride=1, dilation=1, *, bias=False, init=FAN_OUT, dtype, name):
    """A convolution with CFBI's initial values."""
    return Conv(features, size, stride, dilation, bias, dtype, init, name=name)


class GroupNorm(nn.Module):
    """GroupNorm whose sums run over pixels first.

    The variance is that of the differences from the mean: E[x^2] - E[x]^2 would lose the digits
    that the parity with the released code needs.
    """

    groups: int = 32

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> the same, in its dtype; statistics are float32."""
        channels = x.shape[-1]
        groups = num_groups(channels, self.groups)
        scale = self.param('scale', nn.initializers.ones, (channels,))
        bias = self.param('bias', nn.initializers.zeros, (channels,))
        values = x.astype(jnp.float32)
        mean = _over_groups(values.mean(axis=(1, 2)), groups)
        centred = values - mean[:, None, None]
        variance = _over_groups(jnp.square(centred).mean(axis=(1, 2)), groups)
        factor = scale * jax.lax.rsqrt(variance + EPSILON)
        return (centred * factor[:, None, None] + bias).astype(x.dtype)


def num_groups(channels, most):
    """The largest number of equal groups up to `most` of at least two channels.

    >>> num_groups(100, 25), num_groups(24, 32)
    (25, 12)
    """
    return next(n for n in range(most, 0, -1) if channels % n == 0 and channels // n >= 2)


def _over_groups(means, groups):
    """Means of the groups, given to each channel: [N, C] -> [N, C]."""
    batch, channels = means.shape
    grouped = means.reshape(batch, groups, channels // groups).mean(axis=-1)
    return jnp.repeat(grouped, channels // groups, axis=1)


class GCT(nn.Module):
    """Gated channel transformation (Yang et al., CVPR 2020)."""

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> the same; the gates are float32."""
        shape = x.shape[-1:]
        alpha = self.param('alpha', nn.initializers.ones, shape)
        gamma = self.param('gamma', nn.initializers.zeros, shape)
        beta = self.param('beta', nn.initializers.zeros, shape)
        squares = jnp.square(x.astype(jnp.float32)).sum(axis=(1, 2))
        size = alpha * jnp.sqrt(squares + EPSILON)
        norm = gamma * jax.lax.rsqrt(jnp.square(size).mean(axis=-1, keepdims=True) + EPSILON)
        gate = 1.0 + jnp.tanh(size * norm + beta)
        return x * gate[:, None, None].astype(x.dtype)


class Linear(nn.Module):
    """Dense layer with PyTorch's initial values, float32."""

    features: int

    @nn.compact
    def __call__(self, x):
        bound = x.shape[-1] ** -0.5

        def uniform(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        return nn.Dense(self.features, kernel_init=uniform, bias_init=uniform, name='dense')(x)


class Gate(nn.Module):
    """Gate on the channels from the guidance vector (CFBI, section 3.2, Fig. 4)."""

    @nn.compact
    def __call__(self, guidance, *maps):
        """Gates maps [N, h, w, C] of any sizes, whose channels are counted on from one to the next.

        guidance: f32[N, G], or None: no gate.
        """
        if guidance is None:
            return maps
        ends = np.cumsum([x.shape[-1] for x in maps])
        gate = 1.0 + jnp.tanh(Linear(int(ends[-1]), name='linear')(guidance))
        gates = jnp.split(gate[:, None, None], ends[:-1], axis=-1)
        return tuple(x * part.astype(x.dtype) for x, part in zip(maps, gates, strict=True))


class Depthwise(nn.Module):
    """Convolution of each channel by itself, with bias."""

    size: int = 3
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> the same shape."""
        channels = x.shape[-1]
        kernel = self.param('kernel', FAN_OUT, (self.size, self.size, 1, channels))
        bias = self.param('bias', nn.initializers.zeros, (channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return depthwise(x, kernel[:, :, 0]) + bias
