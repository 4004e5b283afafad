"""EfficientNet-Lite0 up to the stage whose features are matched (Tan and Le, ICML 2019).

The Lite variant has no squeeze-and-excitation, and ReLU6 for an activation. Its batch norms are
folded into the convolutions, which have biases instead (`models.encoder_torch_names`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vos_jax.models.encoder_spec import LITE_STAGES, LiteSpec, LiteStage
from vos_jax.models.layers import Conv, Depthwise
from vos_jax.ops import resize

STEM_WIDTH = 32
STAGES = LITE_STAGES
SHARED = 3  # stages before the mask arrives: query and support encoder have them in common


def normalise(frames, dtype=jnp.float32):
    """RGB frames u8[..., 3] as the published weights were trained: (value - 127) / 128."""
    return ((frames.astype(jnp.float32) - 127.0) / 128.0).astype(dtype)


class Block(nn.Module):
    """Inverted residual block: expansion, depthwise convolution, projection."""

    stage: LiteStage
    stride: int
    dilation: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> [N, h / stride, w / stride, width]."""
        stage, channels, y = self.stage, x.shape[-1], x
        if stage.expansion > 1:
            y = nn.relu6(Conv(channels * stage.expansion, 1, dtype=self.dtype, name='expand')(y))
        # The variance of fan_in, which is the kernel alone.
        init = nn.initializers.normal(2**0.5 / stage.size)
        settings = (stage.size, self.stride, self.dilation, self.dtype, init)
        y = nn.relu6(Depthwise(*settings, name='depthwise')(y))
        y = Conv(stage.width, 1, dtype=self.dtype, name='project')(y)
        return x + y if self.stride == 1 and channels == stage.width else y


def _stage(spec, number, x, dtype):
    """Applies stage `number`, 1 to 5; within a compact method, whose module gets its blocks."""
    stage = STAGES[number - 1]
    is_dilated = spec.stride == 8 and number > SHARED
    for index in range(stage.depth):
        is_first = index == 0
        x = Block(
            stage,
            stage.stride if is_first and not is_dilated else 1,
            # The first block of stage 4 sees what it was trained for; its successors see half.
            2 if is_dilated and not (is_first and number == 4) else 1,
            dtype,
            name=f'stage{number}_{index}',
        )(x)
    return jax.lax.stop_gradient(x) if number <= spec.frozen_stages else x


class QueryEncoder(nn.Module):
    """The whole encoder; gives r2, r3, r4 (strides 4, 8, and 16 or 8)."""

    spec: LiteSpec
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x, train=False):
        """x: [N, H, W, 3] normalised -> (r2, r3, r4).

        Its sides are multiples of the stride, or one more: then the cells' middles are aligned.
        """
        del train  # no norms
        rows, columns = ((side % 2, 1) for side in x.shape[1:3])  # as 'SAME' pads
        x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
        x = nn.relu6(Conv(STEM_WIDTH, 3, 2, dtype=self.dtype, padding=0, name='stem')(x))
        outputs = []
        for number in range(1, len(STAGES) + 1):
            x = _stage(self.spec, number, x, self.dtype)
            outputs.append(x)
        return tuple(outputs[stage - 1] * self.spec.scale for stage in (2, 3, 5))


class SupportEncoder(nn.Module):
    """The last two stages with weights of their own, the mask added before each of them.

    The stages before are those of the query encoder: a frame passes them once.
    """

    spec: LiteSpec
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, r3, mask):
        """r3: [N, H / 8, W / 8, 40] of the query encoder; mask: [N, H, W] in 0..1 -> r4."""
        x = r3 / self.spec.scale
        for number in range(SHARED + 1, len(STAGES) + 1):
            means = resize.cell_means(mask[:, None], mask.shape[1] // x.shape[1])
            # Starts at zero: the published weights first see what they know.
            x = x + Conv(
                x.shape[-1],
                1,
                kernel_init=nn.initializers.zeros,
                dtype=self.dtype,
                name=f'mask{number}',
            )(jnp.moveaxis(means, 1, 3).astype(x.dtype))
            x = _stage(self.spec, number, x, self.dtype)
        return x * self.spec.scale
