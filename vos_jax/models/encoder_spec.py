"""Settings of the encoders (`config.model.encoder`); `kind` says which one."""

import dataclasses
import math
from typing import Annotated, Literal

from vos_jax.config.spec import Range, SettingError, Spec

NORMS = ('frozen_bn', 'fixed_bn', 'bn', 'gn')
NORM_GROUPS = 8  # of 'gn'

Norm = Literal[*NORMS]  # see `layers.Norm`
Channels = Annotated[int, Range(1, 2**14)]
Depth = Annotated[int, Range(1, 1000)]
Stride = Annotated[int, Range(1, 4)]
Dilation = Annotated[int, Range(1, 128)]


@dataclasses.dataclass(frozen=True)
class EncoderSpec(Spec):
    """Shape of a ResNet.

    Attributes:
      block: 'bottleneck' (output 4 times the width) or 'basic'.
      stem: 'resnet' (7x7 stride 2, then 3x3 max pooling stride 2) or 'small' (3x3 stride 2).
      stem_width: channels of the stem.
      depths, widths, strides, dilations: one number for each of the three stages res2, res3, res4.
      norm: see `layers.Norm`.
    """

    kind: Literal['resnet'] = dataclasses.field(default='resnet', kw_only=True)
    block: Literal['bottleneck', 'basic'] = 'bottleneck'
    stem: Literal['resnet', 'small'] = 'resnet'
    stem_width: Channels = 64
    depths: tuple[Depth, Depth, Depth] = (3, 4, 6)
    widths: tuple[Channels, Channels, Channels] = (64, 128, 256)
    strides: tuple[Stride, Stride, Stride] = (1, 2, 2)
    dilations: tuple[Dilation, Dilation, Dilation] = (1, 1, 1)
    norm: Norm = 'frozen_bn'

    def check(self):
        check_groups(self, 'stem_width', 'widths')

    @property
    def stage_strides(self):
        """Strides of r2, r3, r4 relative to the image."""
        first = 4 if self.stem == 'resnet' else 2
        return tuple(first * math.prod(self.strides[: n + 1]) for n in range(len(self.strides)))

    @property
    def stage_channels(self):
        """Channels of r2, r3, r4."""
        return tuple(width * (4 if self.block == 'bottleneck' else 1) for width in self.widths)


def check_groups(spec, *names):
    """Raises SettingError where GroupNorm cannot divide the channels that fields of a spec name."""
    for name in names if spec.norm == 'gn' else ():
        channels = getattr(spec, name)
        if any(c % NORM_GROUPS for c in (channels if isinstance(channels, tuple) else (channels,))):
            raise SettingError(name, channels, f"needed: multiples of {NORM_GROUPS} with norm 'gn'")


@dataclasses.dataclass(frozen=True)
class LiteSpec(Spec):
    """EfficientNet-Lite0.

    Attributes:
      stride: of the last stage, 16 as published, or 8: the fourth stage keeps its input's size and
        what follows is dilated.
      frozen_stages: the stem and this many of the five stages get no gradient. Weight decay is the
        optimizer's affair: `optimizer.groups`.
      scale: factor on r2, r3 and r4, which have no norm: 1/8 brings those of the published weights
        to standard deviations of 0.8 to 1.
    """

    kind: Literal['efficientnet_lite0'] = dataclasses.field(
        default='efficientnet_lite0', kw_only=True
    )
    stride: Literal[8, 16] = 16
    frozen_stages: Annotated[int, Range(0, 5)] = 3
    scale: Annotated[float, Range(0, 100, '(]')] = 0.125

    @property
    def stage_strides(self):
        """Strides of r2, r3, r4 relative to the image."""
        return 4, 8, self.stride

    @property
    def stage_channels(self):
        """Channels of r2, r3, r4."""
        return tuple(LITE_STAGES[stage - 1].width for stage in (2, 3, 5))


@dataclasses.dataclass(frozen=True)
class LiteStage:
    """Shape of a stage: kernel size, expansion in each block, output channels, blocks, stride."""

    size: int
    expansion: int
    width: int
    depth: int
    stride: int


LITE_STAGES = (
    LiteStage(3, 1, 16, 1, 1),
    LiteStage(3, 6, 24, 2, 2),
    LiteStage(5, 6, 40, 2, 2),
    LiteStage(3, 6, 80, 3, 2),
    LiteStage(5, 6, 112, 3, 1),
)
