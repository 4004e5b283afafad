"""Settings of STM (`config.model`)."""

import dataclasses

from vos_jax.models.choices import check_choices
from vos_jax.models.resnet import EncoderSpec

CHOICES = {'compat': ('contract', 'release')}


@dataclasses.dataclass(frozen=True)
class STMSpec:
    """Settings of the model.

    Attributes:
      encoder: EncoderSpec of both encoders.
      key_channels, value_channels, decoder_channels: Ck, Cv, width of the decoder.
      compat: 'contract': padding takes no part in memory reading and a slot not in use changes
        nothing. 'release': as the released code and its weights have it (models_stm.md, 3.3):
        frames are padded with black on all sides, padding is read like image, and the
        probabilities are those of 11 slots, of which those not in use have odds of 1e-7.
      memory_stop_gradient: whether the gradient stops at the masks that are memorised.
    """

    encoder: EncoderSpec = EncoderSpec(norm='fixed_bn')
    key_channels: int = 128
    value_channels: int = 512
    decoder_channels: int = 256
    compat: str = 'contract'
    memory_stop_gradient: bool = False

    def __post_init__(self):
        check_choices(self, CHOICES, 'model')
