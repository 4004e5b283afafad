"""Names of the released CFBI code (z-x-yang/CFBI) and of the DeepLabv3+ it starts from."""

import dataclasses

import numpy as np

from vos_jax.errors import InputError
from vos_jax.models import encoder_torch_names, shapes, torch_links
from vos_jax.models.cfbi.model import CFBI
from vos_jax.models.cfbi.spec import CFBISpec, DeepLabSpec

SPEC = dataclasses.asdict(CFBISpec())
CONFIG = dict(
    model=SPEC,
    inference=dict(
        memory=dict(policy='given+previous', size=5, every=1, capacity=5), scales=(1.0,), flip=False
    ),
)
DEEPLAB = dict(model=dict(name='deeplab', dtype='float32', backbone=SPEC['backbone']))

SCALAR = torch_links.Layout(lambda a: a.reshape(()), lambda a: (a.reshape(1, 1, 1, 1),))
# [1, C, 1, 1] <-> [C]
CHANNELS = torch_links.Layout(lambda a: a.reshape(-1), lambda a: (a.reshape(1, -1, 1, 1),))


def _shared(layout, theirs):
    """Layout of one array that they list under several torch_links."""

    def to_ours(*arrays):
        if not all(np.array_equal(arrays[0], other) for other in arrays[1:]):
            raise InputError(
                f'{" and ".join(theirs)} differ; they are one tensor of CFBI, so this is the '
                'checkpoint of another network'
            )
        return layout.to_ours(arrays[0])

    return torch_links.Layout(to_ours, lambda array: layout.to_theirs(array) * len(theirs))


def _deeplab(theirs, ours):
    """Links of the backbone."""
    links = encoder_torch_names.encoder(
        f'{theirs}backbone.', ours, lambda stage: f'layer{stage - 1}', DeepLabSpec().depths
    )

    def unit(conv, norm, name):
        return [
            *torch_links.conv(f'{theirs}{conv}', f'{ours}/{name}/conv'),
            *torch_links.norm(f'{theirs}{norm}', f'{ours}/{name}/norm'),
        ]

    for i in range(4):
        links += unit(f'aspp.aspp{i + 1}.atrous_conv', f'aspp.aspp{i + 1}.bn', f'aspp/branch{i}')
    links += unit('aspp.global_avg_pool.1', 'aspp.global_avg_pool.2', 'aspp/pool')
    links += unit('aspp.conv1', 'aspp.bn1', 'aspp/project')
    links += unit('decoder.conv1', 'decoder.bn1', 'low')
    links += unit('decoder.last_conv.0', 'decoder.last_conv.1', 'decode1')
    return links + unit('decoder.last_conv.4', 'decoder.last_conv.5', 'decode2')


def _group_norm(theirs, ours):
    return [
        torch_links.Link(f'{ours}/scale', (f'{theirs}.weight',)),
        torch_links.Link(f'{ours}/bias', (f'{theirs}.bias',)),
    ]


def _gct(theirs, ours):
    return [
        torch_links.Link(f'{ours}/{name}', (f'{theirs}.{name}',), CHANNELS)
        for name in ('alpha', 'beta', 'gamma')
    ]


def _linear(theirs, ours):
    return torch_links.conv(theirs, f'{ours}/dense', bias=True, layout=torch_links.DENSE)


def _embedding():
    """Each of these stands in their state_dict twice."""
    parts = {
        'embedding_depthwise': _twice(torch_links.conv, 'seperate_conv', 0, bias=True),
        'embedding_norm1': _twice(_group_norm, 'bn1', 1),
        'embedding_pointwise': _twice(torch_links.conv, 'embedding_conv', 3, bias=True),
        'embedding_norm2': _twice(_group_norm, 'bn2', 4),
    }
    return [link for ours, links in parts.items() for link in links(ours)]


def _twice(kind, theirs, index, **options):
    def links(ours):
        both = zip(
            kind(theirs, ours, **options),
            kind(f'semantic_embedding.{index}', ours, **options),
            strict=True,
        )
        for first, second in both:
            pair = first.theirs + second.theirs
            yield torch_links.Link(first.ours, pair, _shared(first.layout, pair))

    return links


def _head():
    links = []
    for i in range(1, 12):
        links += _linear(f'dynamic_seghead.IA{i}.IA', f'head/gate{i}/linear')
    for i in range(1, 9):
        theirs, ours = f'dynamic_seghead.layer{i}', f'head/block{i}'
        links += _gct(f'{theirs}.GCT1', f'{ours}/gct')
        links += encoder_torch_names.block(theirs, ours, i in (1, 3, 6), _group_norm)
    links += _head_aspp('dynamic_seghead.ASPP', 'head/aspp')
    links += _gct('dynamic_seghead.GCT_sc', 'head/gct_low')
    links += torch_links.conv('dynamic_seghead.conv_sc', 'head/conv_low')
    links += _group_norm('dynamic_seghead.bn_sc', 'head/norm_low')
    for i in (1, 2):
        links += torch_links.conv(f'dynamic_seghead.conv{i}', f'head/decode{i}')
        links += _group_norm(f'dynamic_seghead.bn{i}', f'head/decode_norm{i}')
    links += _linear('dynamic_seghead.IA_final_fg', 'output/foreground')
    return links + _linear('dynamic_seghead.IA_final_bg', 'output/background')


def _head_aspp(theirs, ours):
    links = _gct(f'{theirs}.GCT', f'{ours}/gct')
    for i in range(4):
        links += _gct(f'{theirs}.aspp{i + 1}.GCT', f'{ours}/gct{i}')
        links += torch_links.conv(f'{theirs}.aspp{i + 1}.atrous_conv', f'{ours}/conv{i}')
        links += _group_norm(f'{theirs}.aspp{i + 1}.bn', f'{ours}/norm{i}')
    links += torch_links.conv(f'{theirs}.global_avg_pool.1', f'{ours}/pool')
    links += torch_links.conv(f'{theirs}.conv1', f'{ours}/project')
    return links + _group_norm(f'{theirs}.bn1', f'{ours}/norm')


def _links():
    return (
        torch_links.Link('background_bias', ('bg_bias',), SCALAR),
        torch_links.Link('foreground_bias', ('fg_bias',), SCALAR),
        *_deeplab('feature_extracter.', 'backbone'),
        *_embedding(),
        *torch_links.conv('dynamic_prehead.conv', 'prehead', bias=True),
        *_group_norm('dynamic_prehead.bn', 'prehead_norm'),
        *_head(),
    )


def _deeplab_shapes():
    """Those of the whole model, without what is not the backbone's."""
    return {
        collection: {'backbone': tree['backbone']}
        for collection, tree in shapes.variable_shapes(CFBI(CFBISpec())).items()
    }


FORMATS = {
    'cfbi': torch_links.Format(
        config=CONFIG,
        links=_links(),
        shapes=lambda: shapes.variable_shapes(CFBI(CFBISpec())),
        counters=False,  # theirs is a frozen norm
    ),
    'deeplabv3plus_resnet101': torch_links.Format(
        config=DEEPLAB,
        links=tuple(_deeplab('', 'backbone')),
        shapes=_deeplab_shapes,
        left_out=r'decoder\.last_conv\.8\.(weight|bias)',  # the classifier
    ),
}
