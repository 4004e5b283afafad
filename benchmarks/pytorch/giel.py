"""GIEL in plain PyTorch, channels first: the same equations and names as
`vos_jax.models.giel`.

It takes the settings that the configs use; the ablations of the paper are refused.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.pytorch.encoder import Decoder, Encoder, Norm
from vos_jax.errors import InputError
from vos_jax.models.protocol import MEAN, STD

EPSILON = 1e-7
NEGATIVE = -1e9
NEEDED = {
    'support_mask': 'soft',
    'support_source': 'global',
    'support_stop_gradient': False,
    'label_downsample': 'area',
    'temporal_attention': 'reweigh',
    'temporal_projection': 'own',
    'use_instance': True,
    'use_global': True,
}


class Features(NamedTuple):
    """Of a frame alone: skip features, key and value."""

    r3: torch.Tensor
    r2: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    size: tuple


class Entry(NamedTuple):
    """Memory of one frame: key [B, Ck, P], value [B, Cv, P], object_values [B, K, Cv, P]."""

    key: torch.Tensor
    value: torch.Tensor
    object_values: torch.Tensor
    time: int


class Prediction(NamedTuple):
    """logits [B, K+1, H, W], foreground_logits [B, H, W], affinity [B, T, P, Q]."""

    logits: torch.Tensor
    foreground_logits: torch.Tensor
    affinity: torch.Tensor


class GIEL(nn.Module):
    """The model of a vos_jax.models.giel.spec.GIELSpec; objects are bool[B, K]."""

    def __init__(self, spec):
        super().__init__()
        kind = spec.encoder.kind
        if kind != 'resnet':
            raise InputError(
                f"GIEL in PyTorch has a ResNet encoder alone, not '{kind}'; name another --config"
            )
        for name, value in NEEDED.items():
            if getattr(spec, name) != value:
                raise InputError(f'GIEL in PyTorch has {name}={value!r} alone')
        self.spec = spec
        self.stride = spec.encoder.stage_strides[-1]
        channels = spec.encoder.stage_channels[-1]
        self.query_encoder = Encoder(spec.encoder, 3)
        self.support_encoder = Encoder(spec.encoder, 4, spec.inject_mask)
        self.key = nn.Conv2d(channels, spec.key_channels, 1)
        self.value = nn.Conv2d(channels, spec.value_channels, 1)
        self.temporal_attention = TemporalAttention(spec.key_channels)
        self.global_decoder = Decoder(spec)
        self.label_encoder = LabelEncoder(spec)
        if spec.variant == 'full':
            self.instance_decoder = Decoder(spec)
        else:
            self.coarse = CoarseHead(spec)
        if spec.learn_temperature:
            self.log_temperature = nn.Parameter(torch.zeros(()))
        if spec.locality == 'random_walk':
            self.log_walk = nn.Parameter(torch.ones(2))
        self.register_buffer('mean', 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', 255 * torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def start(self, masks):
        """Masks f32[1, K, H, W] of the given frame -> what `advance` takes as masks."""
        return masks, masks.amax(dim=1)

    def remember(self, frame, masks):
        """Entry of a frame f32[1, 3, H, W] with its masks; its number counts for locality alone."""
        objects = torch.ones(masks[0].shape[:2], dtype=torch.bool, device=frame.device)
        return self.memorise(frame, *masks, objects, 0)

    def advance(self, bank, previous, masks, frame):
        """Memorises the previous frame and segments the next: logits [1, K+1, H, W], masks."""
        entry = self.remember(previous, masks)
        objects = torch.ones(masks[0].shape[:2], dtype=torch.bool, device=frame.device)
        prediction = self.segment(self.encode(frame), [*bank, entry], objects, 1)
        masks = prediction.logits.softmax(dim=1)[:, 1:], prediction.foreground_logits.sigmoid()
        return prediction.logits, masks

    def encode(self, frames):
        """frames: f32[B, 3, H, W], 0..255 -> Features."""
        r2, r3, r4 = self.query_encoder(self._padded(self._normalised(frames)))
        return Features(r3, r2, self.key(r4), self.value(r4), frames.shape[2:])

    def memorise(self, frames, masks, foreground, objects, time):
        """masks: f32[B, K, H, W] of the objects, foreground: f32[B, H, W] -> Entry."""
        x = torch.cat([self._normalised(frames), foreground[:, None]], dim=1)
        r4 = self.support_encoder(self._padded(x))[-1]
        value = self.value(r4)
        masks = torch.where(objects[:, :, None, None], masks, 0.0)
        cells = F.avg_pool2d(self._padded(masks), self.stride)
        codes = self.label_encoder(cells, objects)
        object_values = codes * value[:, None]
        return Entry(self.key(r4).flatten(2), value.flatten(2), object_values.flatten(3), time)

    def segment(self, features, memory, objects, time):
        """memory: list of Entry, the first frame's first -> Prediction."""
        grid = features.key.shape[2:]
        keys, values, object_values, times = zip(*memory)
        affinity = self._affinity(torch.stack(keys, dim=1), features, times, time)
        weights = affinity.flatten(1, 2)  # [B, T P, Q]
        skips = features.value, features.r3, features.r2
        read = (torch.cat(values, dim=-1) @ weights).unflatten(-1, grid)
        decoded = self.global_decoder(skips[0], read[:, None], *skips[1:])
        global_logits = self._to_image(decoded, features.size)[:, 0]
        read = (torch.cat(object_values, dim=-1).flatten(1, 2) @ weights).unflatten(-1, grid)
        read = read.unflatten(1, (objects.shape[1], -1))
        if self.spec.variant == 'full':
            scores = self.instance_decoder(skips[0], read, *skips[1:])
        else:
            scores = self.coarse(skips[0], read)
        log_p = F.logsigmoid(self._to_image(scores, features.size))
        if self.spec.instance_uses_global or self.spec.variant == 'fast':
            log_p = log_p + F.logsigmoid(global_logits)[:, None]
        return Prediction(aggregate(log_p, objects), global_logits, affinity)

    def _affinity(self, keys, features, times, time):
        """keys: [B, T, Ck, P] -> [B, T, P, Q], softmax over T and P."""
        spec = self.spec
        scale = 1 / math.sqrt(spec.key_channels) if spec.affinity_scale else 1.0
        if spec.learn_temperature:
            scale = scale * self.log_temperature.exp()
        similarity = keys.transpose(2, 3) @ features.key.flatten(2)[:, None]
        if spec.affinity == 'l2':
            similarity = 2 * similarity - keys.square().sum(dim=2)[..., None]
        similarity = scale * similarity + self._bias(keys, features, times, time)
        valid = self._valid(features.size, keys.device)
        similarity = torch.where(valid[:, None], similarity, NEGATIVE)
        return similarity.flatten(1, 2).softmax(dim=1).view(similarity.shape)

    def _bias(self, keys, features, times, time):
        valid = self._valid(features.size, keys.device)
        means = keys[..., valid].mean(dim=-1)
        query = features.key.flatten(2)[..., valid].mean(dim=-1)
        weights = self.temporal_attention(means, query)
        bias = weights.clamp_min(1e-30).log()[..., None, None]
        if self.spec.locality == 'random_walk':
            a, b = (2 * self.log_walk).exp()
            elapsed = torch.tensor([abs(time - other) for other in times], device=keys.device)
            variance = (a + b * elapsed)[:, None, None]
            distances = squared_distances(*features.key.shape[2:], device=keys.device)
            bias = bias - distances / (2 * variance)
        return bias

    def _valid(self, size, device):
        """bool[P]: cells whose centre is image, and the first ones of a smaller image."""
        inside = []
        for side in size:
            corners = torch.arange(0, side, self.stride, device=device)
            inside.append((corners + self.stride / 2 <= side) | (corners == 0))
        return (inside[0][:, None] & inside[1]).flatten()

    def _to_image(self, logits, size):
        padded = [-(-side // self.stride) * self.stride for side in size]
        x = F.interpolate(logits, size=padded, mode='bilinear')
        return x[:, :, : size[0], : size[1]]

    def _normalised(self, frames):
        return (frames - self.mean) / self.std

    def _padded(self, x):
        height, width = x.shape[2:]
        return F.pad(x, (0, -width % self.stride, 0, -height % self.stride))


class TemporalAttention(nn.Module):
    """A weight per memory frame from the mean keys of the first, its own and the query frame."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Linear(channels, channels)
        self.frame = nn.Linear(channels, channels)
        self.query = nn.Linear(channels, channels)
        self.dense1 = nn.Linear(3 * channels, channels)
        self.dense2 = nn.Linear(channels, channels)
        self.dense3 = nn.Linear(channels, 1)

    def forward(self, means, query):
        """means: [B, T, Ck]; query: [B, Ck] -> [B, T], softmax over T."""
        first, query = self.first(means[:, :1]), self.query(query[:, None])
        x = torch.cat([first.expand_as(means), self.frame(means), query.expand_as(means)], dim=-1)
        x = F.relu(self.dense2(F.relu(self.dense1(x))))
        return self.dense3(x)[..., 0].softmax(dim=1)


class LabelEncoder(nn.Module):
    """Two convolutions and norms on [object, other objects, background]."""

    def __init__(self, spec):
        super().__init__()
        has_bias = spec.label_norm != 'bn'
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=has_bias)
        self.norm1 = Norm(spec.label_norm, 64)
        self.conv2 = nn.Conv2d(64, spec.value_channels, 3, padding=1, bias=has_bias)
        self.norm2 = Norm(spec.label_norm, spec.value_channels)

    def forward(self, cells, objects):
        """cells: [B, K, h, w] -> [B, K, Cv, h, w]."""
        union = cells.sum(dim=1, keepdim=True)
        x = torch.stack([cells, union - cells, (1 - union).expand_as(cells)], dim=2)
        x, used = x.flatten(0, 1), objects.flatten()
        x = F.relu(self.norm1(self.conv1(x), used))
        return self.norm2(self.conv2(x), used).unflatten(0, cells.shape[:2])


class CoarseHead(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.conv1 = nn.Conv2d(2 * spec.value_channels, spec.coarse_channels, 1)
        self.conv2 = nn.Conv2d(spec.coarse_channels, 1, 1)

    def forward(self, query_value, read):
        """query_value: [B, Cv, h, w]; read: [B, K, Cv, h, w] -> [B, K, h, w]."""
        shared = query_value[:, None].expand_as(read)
        x = torch.cat([shared, read], dim=2).flatten(0, 1)
        x = self.conv2(F.relu(self.conv1(x)))
        return x.view(*read.shape[:2], *x.shape[2:])


def squared_distances(height, width, device):
    """Between all cells of a grid: f32[P, P]."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    between_rows = (rows[:, None] - rows).square()[:, None, :, None]
    between_columns = (columns[:, None] - columns).square()[None, :, None, :]
    return (between_rows + between_columns).view(height * width, -1).float()


def log1mexp(x):
    """log(1 - exp(x)) for x < 0."""
    return torch.where(x > -0.693, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def aggregate(log_p, objects):
    """Soft aggregation: log_p [B, K, H, W] -> logits [B, K+1, H, W], background first."""
    used = objects[:, :, None, None]
    low, high = math.log(EPSILON), math.log1p(-EPSILON)
    log_p = log_p.clamp(low, high)
    log_not_p = log1mexp(log_p)
    log_p0 = torch.where(used, log_not_p, 0.0).sum(dim=1, keepdim=True).clamp(low, high)
    foreground = torch.where(used, log_p - log_not_p, NEGATIVE)
    return torch.cat([log_p0 - log1mexp(log_p0), foreground], dim=1)
