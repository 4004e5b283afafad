"""ResNet encoders up to the stage whose features are matched (He et al., CVPR 2016).

The stride of a stage is in the 3x3 convolution of its first block, as in torchvision's weights.
"""

import flax.linen as nn
import jax.numpy as jnp

from vos_jax.models.encoder_spec import EncoderSpec
from vos_jax.models.layers import Conv, Norm


class Block(nn.Module):
    """One residual block, bottleneck or basic."""

    kind: str
    width: int
    stride: int
    dilation: int
    norm: str
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train=False):
        out = self.width * (4 if self.kind == 'bottleneck' else 1)

        def unit(x, features, size, stride, dilation, index):
            of = Conv(
                features, size, stride, dilation, False, dtype=self.dtype, name=f'conv{index}'
            )
            return Norm(self.norm, name=f'norm{index}')(x, train=train, of=of)

        if self.kind == 'bottleneck':
            y = nn.relu(unit(x, self.width, 1, 1, 1, 1))
            y = nn.relu(unit(y, self.width, 3, self.stride, self.dilation, 2))
            y = unit(y, out, 1, 1, 1, 3)
        else:
            y = nn.relu(unit(x, out, 3, self.stride, self.dilation, 1))
            y = unit(y, out, 3, 1, self.dilation, 2)
        if x.shape[-1] != out or self.stride != 1:
            of = Conv(out, 1, self.stride, use_bias=False, dtype=self.dtype, name='shortcut_conv')
            x = Norm(self.norm, name='shortcut_norm')(x, train=train, of=of)
        return nn.relu(x + y)


def stem(spec, x, train, dtype, kind='resnet'):
    """First layers of a ResNet; within a compact method, whose module gets its parts."""
    size = 7 if kind == 'resnet' else 3
    of = Conv(spec.stem_width, size, 2, use_bias=False, dtype=dtype, name='conv1')
    x = nn.relu(Norm(spec.norm, name='norm1')(x, train=train, of=of))
    # Inputs are >= 0, so zero padding never wins: the same as padding by -inf.
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if kind == 'resnet' else x


def stage(spec, number, x, train, dtype, grid=(1,)):
    """Stage `number`, 0 being res2, as `stem`; `grid`: factors on the dilation, block by block."""
    for index in range(spec.depths[number]):
        x = Block(
            spec.block,
            spec.widths[number],
            spec.strides[number] if index == 0 else 1,
            spec.dilations[number] * grid[index % len(grid)],
            spec.norm,
            dtype,
            name=f'res{number + 2}_{index}',
        )(x, train)
    return x


class Encoder(nn.Module):
    """Stem and three stages; gives r2, r3, r4 (strides 4, 8, 16 in the ResNet-50 configuration).

    With `inject_mask` the input's fourth channel is also added, through a 1x1 convolution, before
    each stage. Ours, for training from scratch: without a pre-trained stem the knowledge of the
    mask otherwise arrives at r4 only after hundreds of steps.
    """

    spec: EncoderSpec
    inject_mask: bool = False
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train=False):
        """x: [N, H, W, 3 or 4] normalised -> (r2, r3, r4)."""
        mask = x[..., 3:]
        x = stem(self.spec, x, train, self.dtype, self.spec.stem)
        features = []
        for number in range(len(self.spec.depths)):
            if self.inject_mask:
                cell = mask.shape[1] // x.shape[1]
                means = nn.avg_pool(mask, (cell, cell), (cell, cell)).astype(x.dtype)
                x = x + Conv(x.shape[-1], 1, dtype=self.dtype, name=f'mask{number + 2}')(means)
            x = stage(self.spec, number, x, train, self.dtype)
            features.append(x)
        return tuple(features)
