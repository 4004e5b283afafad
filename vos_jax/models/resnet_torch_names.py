"""Names of ResNets: torchvision's, and those of its COCO Mask R-CNN's backbone.

Taken are the stem and the stages up to stride 16 (`models.resnet.Encoder`).
"""

import dataclasses
import functools

from vos_jax.models import shapes, torch_links
from vos_jax.models.resnet import Encoder, EncoderSpec

SPEC = EncoderSpec(norm='frozen_bn')
CONFIG = dict(model=dict(name='encoder', dtype='float32', encoder=dataclasses.asdict(SPEC)))


def encoder(theirs, ours, stage_name, depths=SPEC.depths):
    """Links of stem and stages.

    theirs: prefix of their names, as 'backbone.body.'; stage_name: function of 2, 3 and 4.
    """
    stem = torch_links.conv(f'{theirs}conv1', f'{ours}/conv1')
    return [*stem, *stages(theirs, ours, stage_name, depths)]


def stages(theirs, ours, stage_name, depths=SPEC.depths):
    """Links of all that follows the first convolution."""
    links = torch_links.norm(f'{theirs}bn1', f'{ours}/norm1')
    for stage, depth in enumerate(depths, start=2):
        for index in range(depth):
            links += block(
                f'{theirs}{stage_name(stage)}.{index}', f'{ours}/res{stage}_{index}', index == 0
            )
    return links


def block(theirs, ours, has_shortcut, norm=torch_links.norm):
    """Links of a bottleneck; `norm`: function of two prefixes that gives those of a norm."""
    links = []
    for i in (1, 2, 3):
        links += torch_links.conv(f'{theirs}.conv{i}', f'{ours}/conv{i}')
        links += norm(f'{theirs}.bn{i}', f'{ours}/norm{i}')
    if has_shortcut:
        links += torch_links.conv(f'{theirs}.downsample.0', f'{ours}/shortcut_conv')
        links += norm(f'{theirs}.downsample.1', f'{ours}/shortcut_norm')
    return links


def _of_torchvision(prefix, left_out, counters):
    return torch_links.Format(
        config=CONFIG,
        links=tuple(encoder(prefix, 'encoder', lambda stage: f'layer{stage - 1}')),
        shapes=functools.cache(lambda: shapes.encoder_shapes(Encoder(SPEC))),
        left_out=left_out,
        counters=counters,
    )


FORMATS = {
    'torchvision_resnet50': _of_torchvision('', r'(layer4|fc)\..*', counters=True),
    'maskrcnn_resnet50': _of_torchvision(
        'backbone.body.', r'(backbone\.body\.layer4|backbone\.fpn|rpn|roi_heads)\..*', False
    ),
}
