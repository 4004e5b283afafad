"""Settings of GIEL: the decisions D1..D8 where the paper is silent, and its ablations."""

import dataclasses
from typing import Literal

from vos_jax.config.schema import ModelSpec
from vos_jax.config.spec import SettingError
from vos_jax.models.encoder_spec import NORM_GROUPS, Channels, EncoderSpec, LiteSpec, Norm


@dataclasses.dataclass(frozen=True)
class GIELSpec(ModelSpec):
    """Settings of GIEL; the defaults are the paper's full variant.

    Attributes:
      encoder: shape of both encoders; those of a LiteSpec have their first stages in common.
      key_channels, value_channels: Ck, Cv (C/8 and C/2 in the paper).
      decoder_channels: width of the refine decoders.
      coarse_channels: width of the coarse head's hidden layer (D7).
      variant: 'full' (instance decoder, Eq. 12) or 'fast' (coarse head, Eq. 11).
      instance_uses_global: whether the object score is multiplied by the global map (D8).
      support_mask: 'soft' or 'hard' (thresholded at 0.5) mask of predicted frames (D1).
      support_source: 'global' (the paper's: from the global embedding) or 'aggregated'.
      support_stop_gradient: whether the gradient stops at that mask (D1); the label encoder's
        masks pass it on in either case.
      inject_mask: see `resnet.Encoder`. Ours. EfficientNet-Lite has no other way for the mask.
      affinity: 'dot' (Eq. 4) or 'l2', the negative squared distance (D3).
      affinity_scale: whether the similarity is divided by sqrt(Ck) (D3).
      learn_temperature: a learned factor on the similarity. Ours.
      locality: 'none', or 'random_walk': the log affinity loses d^2 / (2 (a^2 + b^2 dt)) for two
        cells at distance d and frames dt apart, with a and b learned. Ours.
      temporal_attention: 'reweigh', 'logits' (D5) or 'none' (ablation).
      temporal_projection: 'own' weights for the first, the frame's and the query's key, or
        'shared' ones (D4).
      label_downsample: 'area', means of cells, or 'strided', convolutions of stride 4 (D6).
      label_norm: norm of the label encoder, one of `encoder_spec.NORMS`.
      use_instance: False reads each object with a support encoding of its own mask (ablation).
      use_global: False leaves the global branch out (ablation).
    """

    name: Literal['giel'] = dataclasses.field(default='giel', kw_only=True)
    encoder: EncoderSpec | LiteSpec = EncoderSpec()
    key_channels: Channels = 128
    value_channels: Channels = 512
    decoder_channels: Channels = 256
    coarse_channels: Channels = 256
    variant: Literal['full', 'fast'] = 'full'
    instance_uses_global: bool = True
    support_mask: Literal['soft', 'hard'] = 'soft'
    support_source: Literal['global', 'aggregated'] = 'global'
    support_stop_gradient: bool = False
    inject_mask: bool = False
    affinity: Literal['dot', 'l2'] = 'dot'
    affinity_scale: bool = True
    learn_temperature: bool = False
    locality: Literal['none', 'random_walk'] = 'none'
    temporal_attention: Literal['reweigh', 'logits', 'none'] = 'reweigh'
    temporal_projection: Literal['own', 'shared'] = 'own'
    label_downsample: Literal['area', 'strided'] = 'area'
    label_norm: Norm = 'bn'
    use_instance: bool = True
    use_global: bool = True

    def check(self):
        stride = self.encoder.stage_strides[-1]
        if self.label_downsample == 'strided' and stride != 16:
            needed = f"needed: 'area'; 'strided' halves four times, the encoder has stride {stride}"
            raise SettingError('label_downsample', self.label_downsample, needed)
        if self.label_norm == 'gn' and self.value_channels % NORM_GROUPS:
            needed = f"needed: a multiple of {NORM_GROUPS} with label_norm 'gn'"
            raise SettingError('value_channels', self.value_channels, needed)
