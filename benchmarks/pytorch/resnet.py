"""ResNet-50 up to the stage of stride 16, with torchvision's names (layer1 is res2 here)."""

from torch import nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution, each with BatchNorm; output 4 * width."""

    def __init__(self, channels, width, stride):
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def stage(channels, width, depth, stride):
    """One stage of bottlenecks."""
    blocks = [Bottleneck(channels, width, stride)]
    blocks += [Bottleneck(4 * width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


class Trunk(nn.Module):
    """Stem and stages; gives r2, r3, r4 (strides 4, 8, 16; 256, 512, 1024 channels).

    Args:
      spec: vos_jax.models.resnet.EncoderSpec; depths, widths and stem_width count.
    """

    def __init__(self, spec):
        super().__init__()
        depths, widths, stem_width = spec.depths, spec.widths, spec.stem_width
        self.conv1 = nn.Conv2d(3, stem_width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.res2 = stage(stem_width, widths[0], depths[0], 1)
        self.res3 = stage(4 * widths[0], widths[1], depths[1], 2)
        self.res4 = stage(4 * widths[1], widths[2], depths[2], 2)

    def stages(self, x):
        """From the result of the first convolution on."""
        x = F.max_pool2d(F.relu(self.bn1(x)), 3, 2, 1)
        r2 = self.res2(x)
        r3 = self.res3(r2)
        return r2, r3, self.res4(r3)

    def forward(self, x):
        return self.stages(self.conv1(x))
