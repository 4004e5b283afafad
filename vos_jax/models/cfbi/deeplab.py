"""DeepLabv3+ (Chen et al., ECCV 2018) as feature extractor: no classifier, output stride 16."""

import flax.linen as nn
import jax.numpy as jnp

from vos_jax.models import resnet
from vos_jax.models.cfbi.spec import PoolingSpec
from vos_jax.models.layers import Conv, Norm
from vos_jax.ops import align


class Unit(nn.Module):
    """Convolution without bias, norm, ReLU.

    With `small` the convolution is that of [small enlarged to the size of x, x].
    """

    features: int
    size: int
    norm: str
    dilation: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train=False, small=None):
        if small is not None:
            enlarged = align.resize(small, x.shape[1:3]).astype(x.dtype)
            x = jnp.concatenate([enlarged, x], axis=-1)
        settings = (self.features, self.size, 1, self.dilation, False)
        of = Conv(*settings, dtype=self.dtype, name='conv')
        return nn.relu(Norm(self.norm, name='norm')(x, train=train, of=of))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, three dilated 3x3, and the mean of the whole map."""

    spec: PoolingSpec
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train=False):
        """x: [N, h, w, C] -> [N, h, w, channels]."""
        spec = self.spec

        def unit(name, size=1, dilation=1):
            return Unit(
                spec.channels, size, spec.norm, dilation=dilation, dtype=self.dtype, name=name
            )

        branches = [unit('branch0')(x, train)]
        for index, rate in enumerate(spec.aspp_rates, start=1):
            branches.append(unit(f'branch{index}', 3, rate)(x, train))
        mean = unit('pool')(x.mean(axis=(1, 2), keepdims=True), train)
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = unit('project')(jnp.concatenate(branches, axis=-1), train)
        # Without a key for dropout (evaluation, or a recipe without it) nothing is dropped.
        is_kept = not (train and self.has_rng('dropout'))
        return nn.Dropout(spec.dropout, deterministic=is_kept)(x)


class DeepLab(nn.Module):
    """ResNet with a dilated last stage, ASPP, and a decoder that joins low-level features.

    The ResNet is left out where another encoder gives the stages.
    """

    spec: PoolingSpec
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train=False, stages=None):
        """Features at stride 4, and the low-level ones that they were joined with.

        x: [N, 16 i + 1, 16 j + 1, 3], normalised; stages: (low-level, last) of another encoder.
        """
        spec = self.spec
        low, x = stages or self._stages(x, train)
        x = ASPP(spec, self.dtype, name='aspp')(x, train)
        projected = self._unit(spec.low_channels, 1, 'low')(low, train)
        x = self._unit(spec.channels, 3, 'decode1')(projected, train, small=x)
        return self._unit(spec.channels, 3, 'decode2')(x, train), low

    def _stages(self, x, train):
        spec = self.spec
        low = x = resnet.stage(spec, 0, resnet.stem(spec, x, train, self.dtype), train, self.dtype)
        for number, grid in ((1, (1,)), (2, (1,)), (3, spec.multi_grid)):
            x = resnet.stage(spec, number, x, train, self.dtype, grid)
        return low, x

    def _unit(self, features, size, name):
        return Unit(features, size, self.spec.norm, dtype=self.dtype, name=name)
