"""STM (Oh et al., ICCV 2019) in plain PyTorch, after models_stm: for a comparison of speed.

Differences from the released program, all in its favour: the part of the decoder that depends on
the query frame alone is computed once per frame, not once per object, and images are channels-last
in memory. Objects are a batch axis everywhere else, as released.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import inputs
from benchmarks.pytorch.resnet import Trunk

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class MemoryEncoder(Trunk):
    """Trunk on a frame, the mask of an object and the mask of the other objects."""

    def __init__(self):
        super().__init__()
        self.conv1_m = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.conv1_o = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, frames, masks, others):
        x = self.conv1(frames) + self.conv1_m(masks) + self.conv1_o(others)
        return self.stages(x)[-1]


class KeyValue(nn.Module):
    def __init__(self):
        super().__init__()
        self.Key = nn.Conv2d(1024, 128, 3, padding=1)
        self.Value = nn.Conv2d(1024, 512, 3, padding=1)

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
    def __init__(self, channels=256):
        super().__init__()
        self.convFM = nn.Conv2d(1024, channels, 3, padding=1)
        self.ResMM = ResBlock(channels)
        self.RF3 = Refine(512, channels)
        self.RF2 = Refine(256, channels)
        self.pred2 = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, x, r3, r2):
        x = self.ResMM(self.convFM(x))
        x = self.RF2(r2, self.RF3(r3, x))
        return F.interpolate(self.pred2(F.relu(x)), scale_factor=4, mode='bilinear')


class STM(nn.Module):
    """Names of the parameters are those of the released weights."""

    def __init__(self):
        super().__init__()
        self.Encoder_M = MemoryEncoder()
        self.Encoder_Q = Trunk()
        self.KV_M_r4 = KeyValue()
        self.KV_Q_r4 = KeyValue()
        self.Decoder = Decoder()
        self.register_buffer('mean', 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def memorise(self, frame, masks):
        """frame: f32[1, 3, H, W], 0..255; masks: f32[K, 1, H, W] -> key, value [K, C, h, w]."""
        others = (masks.sum(dim=0, keepdim=True) - masks).clamp(0, 1)
        frames = self._normalised(frame).expand(len(masks), -1, -1, -1)
        return self.KV_M_r4(self.Encoder_M(frames, masks, others))

    def segment(self, frame, keys, values):
        """keys, values: [K, C, T, h, w] of the memory -> probabilities f32[K + 1, H, W]."""
        r2, r3, r4 = self.Encoder_Q(self._normalised(frame))
        key, value = self.KV_Q_r4(r4)
        similarity = keys.flatten(2).transpose(1, 2) @ key.flatten(2) / math.sqrt(key.shape[1])
        read = values.flatten(2) @ similarity.softmax(dim=1)
        read = read.view(len(read), -1, *value.shape[2:])
        value = value.expand(len(read), -1, -1, -1)
        logits = self.Decoder(torch.cat([read, value], dim=1), r3, r2)
        return aggregate(logits.softmax(dim=1)[:, 1])

    def _normalised(self, frame):
        return (frame - self.mean) / self.std


def aggregate(masks):
    """Soft aggregation: masks f32[K, H, W] of the objects -> probabilities f32[K + 1, H, W]."""
    background = (1 - masks).prod(dim=0, keepdim=True)
    masks = torch.cat([background, masks]).clamp(1e-7, 1 - 1e-7)
    return torch.log(masks / (1 - masks)).softmax(dim=0)


class Running:
    """A made-up video being segmented with a full memory, like `benchmarks.inference.Running`."""

    def __init__(self, size, num_objects, num_memory):
        torch.manual_seed(0)
        # XLA does the same: numbers below 1e-38 are slow, and no result depends on them.
        torch.set_flush_denormal(True)
        self._model = STM().eval().to(memory_format=torch.channels_last)
        self._frames, masks = inputs.make_video(size, num_memory + 1, num_objects)
        self._size = size
        self._now = 0
        ids = torch.arange(num_objects + 1, dtype=torch.uint8).view(-1, 1, 1)
        self._masks = (torch.from_numpy(masks)[None] == ids).float()
        with torch.inference_mode():
            key, value = self._model.memorise(*self._padded(self._frames[0], self._masks))
        # The memory keeps its size: four earlier frames, and the previous one joins for each step.
        self._bank = [key] * (num_memory - 1), [value] * (num_memory - 1)
        self.step()

    def step(self):
        """Memorises the previous frame and segments the next one; gives its labels."""
        previous = self._frames[self._now]
        self._now = (self._now + 1) % len(self._frames)
        with torch.inference_mode():
            entry = self._model.memorise(*self._padded(previous, self._masks))
            keys, values = (torch.stack([*old, new], dim=2) for old, new in zip(self._bank, entry))
            frame, _ = self._padded(self._frames[self._now], self._masks)
            self._masks = self._model.segment(frame, keys, values)
            self._masks = self._masks[:, : self._size[0], : self._size[1]]
            return self._masks.argmax(dim=0).numpy()

    def _padded(self, frame, masks):
        """Frame f32[1, 3, H, W] and masks of the objects f32[K, 1, H, W], sides multiples of 16."""
        after = [-side % 16 for side in self._size]
        frame = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        frame = frame.contiguous(memory_format=torch.channels_last)
        return (
            F.pad(frame, (0, after[1], 0, after[0])),
            F.pad(masks[1:, None], (0, after[1], 0, after[0])),
        )
