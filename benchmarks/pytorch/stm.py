"""STM (Oh et al., ICCV 2019) in plain PyTorch, after models_stm: for a comparison of speed.

Differences from the released program, all in its favour: the part of the decoder that depends on
the query frame alone is computed once per frame, not once per object, and images are channels-last
in memory. Objects are a batch axis everywhere else, as released.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.pytorch.resnet import Trunk
from vos_jax.errors import InputError
from vos_jax.models.protocol import MEAN, STD
from vos_jax.models.stm.spec import STMSpec


class MemoryEncoder(Trunk):
    """Trunk on a frame, the mask of an object and the mask of the other objects."""

    def __init__(self, spec):
        super().__init__(spec)
        self.conv1_m = nn.Conv2d(1, spec.stem_width, 7, 2, 3, bias=False)
        self.conv1_o = nn.Conv2d(1, spec.stem_width, 7, 2, 3, bias=False)

    def forward(self, frames, masks, others):
        x = self.conv1(frames) + self.conv1_m(masks) + self.conv1_o(others)
        return self.stages(x)[-1]


class KeyValue(nn.Module):
    def __init__(self, spec):
        super().__init__()
        channels = spec.encoder.stage_channels[-1]
        self.Key = nn.Conv2d(channels, spec.key_channels, 3, padding=1)
        self.Value = nn.Conv2d(channels, spec.value_channels, 3, padding=1)

    def forward(self, r4):
        return self.Key(r4), self.Value(r4)


class ResBlock(nn.Module):
    """ReLU before each 3x3 convolution, raw shortcut."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Refine(nn.Module):
    """Skip features of the query frame, added to the enlarged map of each object."""

    def __init__(self, skip_channels, channels):
        super().__init__()
        self.convFS = nn.Conv2d(skip_channels, channels, 3, padding=1)
        self.ResFS = ResBlock(channels)
        self.ResMM = ResBlock(channels)

    def forward(self, skip, x):
        skip = self.ResFS(self.convFS(skip))
        return self.ResMM(skip + F.interpolate(x, scale_factor=2, mode='bilinear'))


class Decoder(nn.Module):
    def __init__(self, spec):
        super().__init__()
        channels = spec.decoder_channels
        c2, c3, _ = spec.encoder.stage_channels
        self.convFM = nn.Conv2d(2 * spec.value_channels, channels, 3, padding=1)
        self.ResMM = ResBlock(channels)
        self.RF3 = Refine(c3, channels)
        self.RF2 = Refine(c2, channels)
        self.pred2 = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, x, r3, r2):
        x = self.ResMM(self.convFM(x))
        x = self.RF2(r2, self.RF3(r3, x))
        return F.interpolate(self.pred2(F.relu(x)), scale_factor=4, mode='bilinear')


class STM(nn.Module):
    """Names of the parameters are those of the released weights.

    Args:
      spec: vos_jax.models.stm.spec.STMSpec; the default is the published size.
    """

    def __init__(self, spec=None):
        super().__init__()
        spec = spec or STMSpec()
        if (spec.encoder.block, spec.encoder.norm) != ('bottleneck', 'fixed_bn'):
            raise InputError("STM in PyTorch is as released: 'bottleneck' blocks, norm 'fixed_bn'")
        self.stride = spec.encoder.stage_strides[-1]
        self.Encoder_M = MemoryEncoder(spec.encoder)
        self.Encoder_Q = Trunk(spec.encoder)
        self.KV_M_r4 = KeyValue(spec)
        self.KV_Q_r4 = KeyValue(spec)
        self.Decoder = Decoder(spec)
        self.register_buffer('mean', 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def start(self, masks):
        """Masks f32[1, K, H, W] of the given frame -> what `advance` takes as masks."""
        return masks[0]

    def remember(self, frame, masks):
        """Entry of a frame f32[1, 3, H, W] with masks f32[K, H, W]; sides to multiples of 16."""
        return self.memorise(self._padded(frame), self._padded(masks[:, None]))

    def advance(self, bank, previous, masks, frame):
        """Memorises the previous frame and segments the next: logits [1, K+1, H, W], masks."""
        memory = [*bank, self.remember(previous, masks)]
        keys, values = (torch.stack(parts, dim=2) for parts in zip(*memory))
        height, width = frame.shape[2:]
        logits = self.segment(self._padded(frame), keys, values)[:, :height, :width]
        return logits[None], logits.softmax(dim=0)[1:]

    def memorise(self, frame, masks):
        """frame: f32[1, 3, H, W], 0..255; masks: f32[K, 1, H, W] -> key, value [K, C, h, w]."""
        others = (masks.sum(dim=0, keepdim=True) - masks).clamp(0, 1)
        frames = self._normalised(frame).expand(len(masks), -1, -1, -1)
        return self.KV_M_r4(self.Encoder_M(frames, masks, others))

    def segment(self, frame, keys, values):
        """keys, values: [K, C, T, h, w] of the memory -> logits f32[K + 1, H, W]."""
        r2, r3, r4 = self.Encoder_Q(self._normalised(frame))
        key, value = self.KV_Q_r4(r4)
        similarity = keys.flatten(2).transpose(1, 2) @ key.flatten(2) / math.sqrt(key.shape[1])
        read = values.flatten(2) @ similarity.softmax(dim=1)
        read = read.view(len(read), -1, *value.shape[2:])
        value = value.expand(len(read), -1, -1, -1)
        logits = self.Decoder(torch.cat([read, value], dim=1), r3, r2)
        return aggregate(logits.softmax(dim=1)[:, 1])

    def _padded(self, x):
        height, width = x.shape[2:]
        return F.pad(x, (0, -width % self.stride, 0, -height % self.stride))

    def _normalised(self, frame):
        return (frame - self.mean) / self.std


def aggregate(masks):
    """Soft aggregation: masks f32[K, H, W] of the objects -> logits f32[K + 1, H, W]."""
    background = (1 - masks).prod(dim=0, keepdim=True)
    masks = torch.cat([background, masks]).clamp(1e-7, 1 - 1e-7)
    return torch.log(masks / (1 - masks))
