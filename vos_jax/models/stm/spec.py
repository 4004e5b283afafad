"""Settings of STM (`config.model`)."""

import dataclasses
from typing import Literal

from vos_jax.config.schema import ModelSpec
from vos_jax.models.encoder_spec import Channels, EncoderSpec


@dataclasses.dataclass(frozen=True)
class STMSpec(ModelSpec):
    """Settings of the model.

    Attributes:
      encoder: EncoderSpec of both encoders.
      key_channels, value_channels, decoder_channels: Ck, Cv, width of the decoder.
      compat: 'contract': padding takes no part in memory reading and a slot not in use changes
        nothing. 'release': as the released code and its weights have it:
        frames are padded with black on all sides, padding is read like image, and the
        probabilities are those of 11 slots, of which those not in use have odds of 1e-7.
      memory_stop_gradient: whether the gradient stops at the masks that are memorised.
      train_in_tiles: whether training reads a large memory in tiles, whose weights the backward
        pass computes again, as inference does and CPUs always do. For clips of many frames on few
        devices; clips of three frames have small memories, and tiles do not follow the rows of
        images that devices share.
    """

    name: Literal['stm'] = dataclasses.field(default='stm', kw_only=True)
    encoder: EncoderSpec = EncoderSpec(norm='fixed_bn')
    key_channels: Channels = 128
    value_channels: Channels = 512
    decoder_channels: Channels = 256
    compat: Literal['contract', 'release'] = 'contract'
    memory_stop_gradient: bool = False
    train_in_tiles: bool = False
