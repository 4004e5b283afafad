"""Settings of CFBI (`config.model`)."""

import dataclasses
from typing import Annotated, Literal

from vos_jax.config.schema import ModelSpec
from vos_jax.config.spec import Length, Range, Spec
from vos_jax.models.encoder_spec import (
    Channels,
    Depth,
    Dilation,
    LiteSpec,
    Norm,
    Stride,
    check_groups,
)

WINDOWS = (12, 2, 4, 6, 8, 10)


@dataclasses.dataclass(frozen=True)
class PoolingSpec(Spec):
    """What DeepLabv3+ adds to an encoder.

    Attributes:
      aspp_rates: dilations of the three 3x3 branches.
      channels: of the ASPP and of the result; low_channels: of the projected low-level features.
      dropout: after the ASPP, in training.
      norm: see `layers.Norm`.
    """

    aspp_rates: tuple[Dilation, Dilation, Dilation] = (6, 12, 18)
    channels: Channels = 256
    low_channels: Channels = 48
    dropout: Annotated[float, Range(0, 1, '[)')] = 0.1
    norm: Norm = 'frozen_bn'

    def check(self):
        check_groups(self, 'channels', 'low_channels')


@dataclasses.dataclass(frozen=True)
class DeepLabSpec(PoolingSpec):
    """Shape of the DeepLabv3+ backbone; the defaults are ResNet-101.

    Attributes:
      block: 'bottleneck' (output 4 times the width) or 'basic'.
      stem_width: channels of the stem (7x7 stride 2, then 3x3 max pooling stride 2).
      depths, widths, strides, dilations: one number for each of the four stages res2 to res5.
      multi_grid: factors of the last stage's dilation, block by block.
    """

    kind: Literal['resnet'] = dataclasses.field(default='resnet', kw_only=True)
    block: Literal['bottleneck', 'basic'] = 'bottleneck'
    stem_width: Channels = 64
    depths: tuple[Depth, Depth, Depth, Depth] = (3, 4, 23, 3)
    widths: tuple[Channels, Channels, Channels, Channels] = (64, 128, 256, 512)
    strides: tuple[Stride, Stride, Stride, Stride] = (1, 2, 2, 1)
    dilations: tuple[Dilation, Dilation, Dilation, Dilation] = (1, 1, 1, 2)
    multi_grid: Annotated[tuple[Dilation, ...], Length(1, 1000)] = (1, 2, 4)

    def check(self):
        super().check()
        check_groups(self, 'stem_width', 'widths')


@dataclasses.dataclass(frozen=True)
class LiteDeepLabSpec(PoolingSpec, LiteSpec):
    """DeepLabv3+ on EfficientNet-Lite0, for few objects and pixels. Ours."""


@dataclasses.dataclass(frozen=True)
class CFBISpec(ModelSpec):
    """Settings of the model; the defaults are those of the released code.

    Attributes:
      backbone: DeepLabSpec, or LiteDeepLabSpec.
      embedding_channels: of the pixel embedding; prehead_channels: of the maps' 1x1 convolution.
      head_channels: width of the ensembler's first and later stages, and of its output.
      channel_order: 'bgr' as the released weights want it, or 'rgb'.
      max_edge: longer edges are shrunk to this many pixels; scale: factor on the frame's size.
      windows: radii of local matching in cells of stride 8, in the order of the channels.
      global_atrous: only every Nth of the rows and columns of a reference are matched (evaluation).
      matching_dtype: of the products in both matchings.
      matching_kernel: whether global matching is one kernel on accelerators: no distance is written
        to memory. Not yet measured on one; on TPUs the plain form writes none either, and the
        compiler's plan is the smaller one (docs/comparing_with_pytorch.md).
      matching_background: whether the background maps enter the head (Table 4, P).
      attention_background: whether the guidance has background vectors (Table 4, I).
      distance_bias: whether the distances have trained biases (Table 4).
      instance_attention: whether gates and output follow the guidance vector (Table 5, line 5).
      head: 'ensembler', or 'separable': four depthwise separable layers (Table 5, line 3).
    """

    name: Literal['cfbi'] = dataclasses.field(default='cfbi', kw_only=True)
    backbone: DeepLabSpec | LiteDeepLabSpec = DeepLabSpec()
    embedding_channels: Channels = 100
    prehead_channels: Channels = 64
    head_channels: tuple[Channels, Channels, Channels] = (256, 512, 128)
    channel_order: Literal['bgr', 'rgb'] = 'bgr'
    max_edge: Annotated[int, Range(33, 2**14)] = 1040
    scale: Annotated[float, Range(0, 16, '(]')] = 1.0
    windows: Annotated[tuple[Annotated[int, Range(1, 100)], ...], Length(1, 100)] = WINDOWS
    global_atrous: Annotated[int, Range(1, 100)] = 1
    matching_dtype: Literal['float32', 'bfloat16', 'float16'] = 'float32'
    matching_kernel: bool = False
    matching_background: bool = True
    attention_background: bool = True
    distance_bias: bool = True
    instance_attention: bool = True
    head: Literal['ensembler', 'separable'] = 'ensembler'


def network_size(size, max_edge, scale):
    """Size at which a frame of size (H, W) is seen: the next one of the form 16 k + 1.

    >>> network_size((480, 854), 1040, 1.0)
    (481, 849)
    """
    shrink = min(max_edge / max(size), 1.0)
    sides = (int(shrink * side * scale) for side in size)
    # Python rounds halves to even, as the released code does.
    return tuple(max(round((side - 1) / 16), 1) * 16 + 1 for side in sides)
