"""CFBI's heads: the collaborative ensembler (section 3.3), FEELVOS' layers, the dynamic output.

Everything works on slots as a batch: N = B * S.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vos_jax.models import layers
from vos_jax.ops import align

EPSILON = 1e-5
FAN_OUT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
FAN_IN = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')
# (stage, stride, dilation) of each block; stage 0 is as wide as head_channels[0].
BLOCKS = ((0, 1, 1), (0, 1, 2), (1, 2, 1), (1, 1, 2), (1, 1, 4), (1, 2, 1), (1, 1, 2), (1, 1, 4))


def conv(features, size=1, stride=1, dilation=1, *, bias=False, init=FAN_OUT, dtype, name):
    """A convolution with CFBI's initial values."""
    return layers.Conv(features, size, stride, dilation, bias, dtype, init, name=name)


def depthwise(size, *, dtype, name):
    """A depthwise convolution, likewise."""
    return layers.Depthwise(size, dtype=dtype, kernel_init=FAN_OUT, between=(1,), name=name)


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


class Block(nn.Module):
    """Bottleneck whose residual branch begins with a GCT."""

    features: int
    stride: int
    dilation: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> [N, h / stride, w / stride, features]."""
        width = self.features // 4

        def unit(x, features, size, stride, dilation, index):
            x = conv(features, size, stride, dilation, dtype=self.dtype, name=f'conv{index}')(x)
            return GroupNorm(name=f'norm{index}')(x)

        y = GCT(name='gct')(x)
        y = nn.relu(unit(y, width, 1, 1, 1, 1))
        y = nn.relu(unit(y, width, 3, self.stride, self.dilation, 2))
        y = unit(y, self.features, 1, 1, 1, 3)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = conv(self.features, 1, self.stride, dtype=self.dtype, name='shortcut_conv')(x)
            x = GroupNorm(name='shortcut_norm')(x)
        return nn.relu(x + y)


class HeadASPP(nn.Module):
    """ASPP with a GCT before each branch and before the projection."""

    features: int
    rates: tuple = (6, 12, 18)
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> [N, h, w, features]."""
        width = self.features // 2
        branches = []
        for index, rate in enumerate((1, *self.rates)):
            y = GCT(name=f'gct{index}')(x)
            settings = (1,) if index == 0 else (3, 1, rate)
            y = conv(width, *settings, init=FAN_IN, dtype=self.dtype, name=f'conv{index}')(y)
            branches.append(nn.relu(GroupNorm(name=f'norm{index}')(y)))
        mean = x.mean(axis=(1, 2), keepdims=True)
        mean = nn.relu(conv(width, init=FAN_IN, dtype=self.dtype, name='pool')(mean))
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = GCT(name='gct')(jnp.concatenate(branches, axis=-1))
        x = conv(self.features, init=FAN_IN, dtype=self.dtype, name='project')(x)
        return nn.relu(GroupNorm(name='norm')(x))


class Ensembler(nn.Module):
    """Collaborative ensembler: eight gated blocks, ASPP and decoder."""

    channels: tuple
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, low, guidance):
        """x: [N, h, w, C]; low: [N, h, w, C']; guidance: f32[N, G] or None -> [N, h, w, D]."""
        stages = []
        for index, (stage, stride, dilation) in enumerate(BLOCKS, start=1):
            (x,) = Gate(name=f'gate{index}')(guidance, x)
            width = self.channels[stage]
            x = Block(width, stride, dilation, self.dtype, name=f'block{index}')(x)
            stages.append(x)
        (x,) = Gate(name='gate9')(guidance, x)
        x = HeadASPP(self.channels[0], dtype=self.dtype, name='aspp')(x)
        return self._decode(x, low, stages[1], guidance)

    def _decode(self, x, low, first_stage, guidance):
        width = self.channels[2]
        skip = GCT(name='gct_low')(jnp.concatenate([low, first_stage], axis=-1))
        skip = conv(width // 2, dtype=self.dtype, name='conv_low')(skip)
        skip = nn.relu(GroupNorm(16, name='norm_low')(skip))
        # A gate is the same at all places: it commutes with the enlargement.
        x, skip = Gate(name='gate10')(guidance, x, skip)
        enlarged = align.resize(x, skip.shape[1:3], align.cubic_weights).astype(skip.dtype)
        x = jnp.concatenate([enlarged, skip], axis=-1)
        x = conv(width, 3, dtype=self.dtype, name='decode1')(x)
        x = nn.relu(GroupNorm(name='decode_norm1')(x))
        (x,) = Gate(name='gate11')(guidance, x)
        x = conv(width, 3, dtype=self.dtype, name='decode2')(x)
        return nn.relu(GroupNorm(name='decode_norm2')(x))


class Separable(nn.Module):
    """FEELVOS' head: four depthwise separable 7x7 layers, gated as the ensembler is.

    FEELVOS normalises over the batch; groups here, as everywhere in CFBI's head.
    """

    channels: tuple
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, low, guidance):
        """As `Ensembler`; the low-level features are not used."""
        del low
        widths = (self.channels[0],) * 3 + (self.channels[2],)
        for index, width in enumerate(widths, start=1):
            (x,) = Gate(name=f'gate{index}')(guidance, x)
            x = depthwise(7, dtype=self.dtype, name=f'depthwise{index}')(x)
            x = nn.relu(GroupNorm(name=f'depthwise_norm{index}')(x))
            x = conv(width, dtype=self.dtype, name=f'pointwise{index}')(x)
            x = nn.relu(GroupNorm(name=f'pointwise_norm{index}')(x))
        return x


class DynamicOutput(nn.Module):
    """Foreground and background logit of each slot by a 1x1 convolution made from its guidance."""

    @nn.compact
    def __call__(self, x, guidance):
        """x: [N, h, w, C]; guidance: f32[N, G] or None (static weights) -> f32[N, h, w] twice."""
        x = x.astype(jnp.float32)
        channels = x.shape[-1]
        if guidance is None:
            logits = conv(2, bias=True, dtype=None, name='static')(x)
            return logits[..., 0], logits[..., 1]
        logits = []
        for name in ('foreground', 'background'):
            weights = Linear(channels + 1, name=name)(guidance)
            kernel, bias = weights[:, :channels], weights[:, channels]
            logits.append(jnp.einsum('nhwc,nc->nhw', x, kernel) + bias[:, None, None])
        return tuple(logits)
