"""GIEL's encoder with the names of `vos_jax.models.resnet`, so that weights go both ways."""

import torch
from torch import nn
from torch.nn import functional as F


class Norm(nn.Module):
    """'frozen_bn' and 'fixed_bn' with stored statistics, 'bn' with those of the batch, or 'gn'."""

    def __init__(self, kind, channels):
        super().__init__()
        self.kind = kind
        if kind == 'gn':
            self.gn = nn.GroupNorm(8, channels, eps=1e-5)
        else:
            self.bn = nn.BatchNorm2d(channels, eps=1e-5)
        if kind == 'frozen_bn':
            self.bn.requires_grad_(False)

    def forward(self, x, used=None):
        """x: [N, C, h, w]; used: bool[N], samples that count in the statistics of a batch."""
        if self.kind == 'gn':
            return self.gn(x)
        norm = self.bn
        if self.training and self.kind == 'bn':
            # By hand: F.batch_norm cannot leave samples out of the statistics.
            counted = x if used is None else x[used]
            variance, mean = torch.var_mean(counted, (0, 2, 3), correction=0, keepdim=True)
            x = (x - mean) * torch.rsqrt(variance + norm.eps)
            return x * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, eps=norm.eps
        )


class Block(nn.Module):
    """One residual block, bottleneck or basic."""

    def __init__(self, kind, channels, width, stride, dilation, norm):
        super().__init__()
        out = width * (4 if kind == 'bottleneck' else 1)
        if kind == 'bottleneck':
            layers = [
                (channels, width, 1, 1, 1),
                (width, width, 3, stride, dilation),
                (width, out, 1, 1, 1),
            ]
        else:
            layers = [(channels, out, 3, stride, dilation), (out, out, 3, 1, dilation)]
        self.depth = len(layers)
        for index, (before, after, size, step, spread) in enumerate(layers, start=1):
            padding = spread * (size // 2)
            convolution = nn.Conv2d(before, after, size, step, padding, spread, bias=False)
            setattr(self, f'conv{index}', convolution)
            setattr(self, f'norm{index}', Norm(norm, after))
        self.has_shortcut = channels != out or stride != 1
        if self.has_shortcut:
            self.shortcut_conv = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.shortcut_norm = Norm(norm, out)

    def forward(self, x):
        y = x
        for index in range(1, self.depth + 1):
            y = getattr(self, f'norm{index}')(getattr(self, f'conv{index}')(y))
            y = F.relu(y) if index < self.depth else y
        return F.relu(y + (self.shortcut_norm(self.shortcut_conv(x)) if self.has_shortcut else x))


class Encoder(nn.Module):
    """Stem and three stages: r2, r3, r4.

    Args:
      spec: vos_jax.models.resnet.EncoderSpec.
      inputs: channels of the input, 3 or 4 (frame and mask).
      inject_mask: whether the fourth channel is added before each stage.
    """

    def __init__(self, spec, inputs, inject_mask=False):
        super().__init__()
        self.spec, self.inject_mask = spec, inject_mask
        size = 7 if spec.stem == 'resnet' else 3
        self.conv1 = nn.Conv2d(inputs, spec.stem_width, size, 2, size // 2, bias=False)
        self.norm1 = Norm(spec.norm, spec.stem_width)
        channels = spec.stem_width
        for stage, depth in enumerate(spec.depths):
            if inject_mask:
                setattr(self, f'mask{stage + 2}', nn.Conv2d(1, channels, 1))
            for index in range(depth):
                stride = spec.strides[stage] if index == 0 else 1
                width, dilation = spec.widths[stage], spec.dilations[stage]
                block = Block(spec.block, channels, width, stride, dilation, spec.norm)
                setattr(self, f'res{stage + 2}_{index}', block)
                channels = spec.stage_channels[stage]

    def forward(self, x):
        mask = x[:, 3:]
        x = F.relu(self.norm1(self.conv1(x)))
        if self.spec.stem == 'resnet':
            x = F.max_pool2d(x, 3, 2, 1)
        features = []
        for stage, depth in enumerate(self.spec.depths):
            if self.inject_mask:
                means = F.avg_pool2d(mask, mask.shape[2] // x.shape[2])
                x = x + getattr(self, f'mask{stage + 2}')(means)
            for index in range(depth):
                x = getattr(self, f'res{stage + 2}_{index}')(x)
            features.append(x)
        return tuple(features)


def conv3x3(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class ResBlock(nn.Module):
    """ReLU before each 3x3 convolution, raw shortcut."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Skip(nn.Module):
    """The part of a refinement that depends on the query frame alone."""

    def __init__(self, inputs, channels):
        super().__init__()
        self.conv = conv3x3(inputs, channels)
        self.block = ResBlock(channels)

    def forward(self, x):
        return self.block(self.conv(x))


class Decoder(nn.Module):
    """Decodes all slots as one batch; skips are computed once per frame."""

    def __init__(self, spec):
        super().__init__()
        channels = spec.decoder_channels
        c2, c3, _ = spec.encoder.stage_channels
        self.conv = conv3x3(2 * spec.value_channels, channels)
        self.block = ResBlock(channels)
        self.skip3, self.skip2 = Skip(c3, channels), Skip(c2, channels)
        self.block3, self.block2 = ResBlock(channels), ResBlock(channels)
        self.predict = conv3x3(channels, 1)

    def forward(self, query_value, read, r3, r2):
        """query_value: [B, Cv, h, w]; read: [B, K, Cv, h, w] -> logits [B, K, h2, w2]."""
        batch, slots = read.shape[:2]
        shared = query_value[:, None].expand(-1, slots, -1, -1, -1)
        x = torch.cat([shared, read], dim=2).flatten(0, 1)
        x = self.block(self.conv(x))
        for skip, block, r in ((self.skip3, self.block3, r3), (self.skip2, self.block2, r2)):
            x = F.interpolate(x, size=r.shape[2:], mode='bilinear')
            x = skip(r)[:, None] + x.unflatten(0, (batch, slots))
            x = block(x.flatten(0, 1))
        return self.predict(F.relu(x)).view(batch, slots, *x.shape[2:])
