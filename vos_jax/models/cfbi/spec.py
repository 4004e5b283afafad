"""Settings of CFBI (`config.model`)."""

import dataclasses

from vos_jax.errors import InputError
from vos_jax.models.cfbi.deeplab import DeepLabSpec
from vos_jax.models.choices import check_choices
from vos_jax.ops.matching import WINDOWS

CHOICES = {
    'channel_order': ('bgr', 'rgb'),
    'matching_dtype': ('float32', 'bfloat16', 'float16'),
    'head': ('ensembler', 'separable'),
}


@dataclasses.dataclass(frozen=True)
class CFBISpec:
    """Settings of the model; the defaults are those of the released code.

    Attributes:
      backbone: DeepLabSpec.
      embedding_channels: of the pixel embedding; prehead_channels: of the maps' 1x1 convolution.
      head_channels: width of the ensembler's first and later stages, and of its output.
      channel_order: 'bgr' as the released weights want it, or 'rgb'.
      max_edge: longer edges are shrunk to so many pixels; scale: factor on the frame's size.
      windows: radii of local matching in cells of stride 8, in the order of the channels.
      global_atrous: only every so many rows and columns of a reference are matched (evaluation).
      matching_dtype: of the products in both matchings.
      matching_background: whether the background maps enter the head (Table 4, P).
      attention_background: whether the guidance has background vectors (Table 4, I).
      distance_bias: whether the distances have trained biases (Table 4).
      instance_attention: whether gates and output follow the guidance vector (Table 5, line 5).
      head: 'ensembler', or 'separable': four depthwise separable layers (Table 5, line 3).
    """

    backbone: DeepLabSpec = DeepLabSpec()
    embedding_channels: int = 100
    prehead_channels: int = 64
    head_channels: tuple = (256, 512, 128)
    channel_order: str = 'bgr'
    max_edge: int = 1040
    scale: float = 1.0
    windows: tuple = WINDOWS
    global_atrous: int = 1
    matching_dtype: str = 'float32'
    matching_background: bool = True
    attention_background: bool = True
    distance_bias: bool = True
    instance_attention: bool = True
    head: str = 'ensembler'

    def __post_init__(self):
        check_choices(self, CHOICES, 'model')
        if not self.windows or min(self.windows) < 1:
            raise InputError(f"'model.windows' is {self.windows}; needed: radii of 1 or more")
        if self.global_atrous < 1 or self.max_edge < 33 or self.scale <= 0:
            raise InputError(
                f"'model.global_atrous' is {self.global_atrous}, 'max_edge' {self.max_edge}, "
                f"'scale' {self.scale}; needed: 1 or more, 33 or more, above 0"
            )


def network_size(size, max_edge, scale):
    """Size at which a frame is seen: the next one of the form 16 k + 1.

    Args:
      size: (H, W) of the frame.
      max_edge, scale: of `CFBISpec`.

    >>> network_size((480, 854), 1040, 1.0)
    (481, 849)
    """
    shrink = min(max_edge / max(size), 1.0)
    sides = (int(shrink * side * scale) for side in size)
    # Python rounds halves to even, as the released code does.
    return tuple(max(round((side - 1) / 16), 1) * 16 + 1 for side in sides)
