"""Names of the released STM code (seoungwugoh/STM)."""

import functools

import numpy as np

from vos_jax.models import encoder_torch_names, protocol, shapes, torch_links
from vos_jax.models.stm.model import STM
from vos_jax.models.stm.spec import STMSpec

CONFIG = dict(
    model=dict(
        name='stm',
        dtype='float32',
        encoder=encoder_torch_names.CONFIG['model']['encoder'] | dict(norm='fixed_bn'),
        compat='release',
    ),
    inference=dict(memory=dict(policy='every_n', every=5, size=1000, capacity=1000)),
)
SPEC = STMSpec()


def links_of(spec):
    """Links of a model of these depths and widths (STMSpec); the released one is the default."""
    depths = spec.encoder.depths
    stem = ('Encoder_M.conv1.weight', 'Encoder_M.conv1_m.weight', 'Encoder_M.conv1_o.weight')
    stage_name = lambda stage: f'res{stage}'  # noqa: E731
    links = [torch_links.Link('memory_encoder/conv1/kernel', stem, torch_links.joined(3, 1, 1))]
    links += encoder_torch_names.stages('Encoder_M.', 'memory_encoder', stage_name, depths)
    links += encoder_torch_names.encoder('Encoder_Q.', 'query_encoder', stage_name, depths)
    for theirs, ours in (('KV_M_r4', 'memory'), ('KV_Q_r4', 'query')):
        links += torch_links.conv(f'{theirs}.Key', f'{ours}_key', bias=True)
        links += torch_links.conv(f'{theirs}.Value', f'{ours}_value', bias=True)
    return tuple(links + _decoder(spec.value_channels))


def _decoder(value_channels):
    # Theirs takes the read first, then the query's value; ours the shared part first.
    links = torch_links.conv(
        'Decoder.convFM', 'decoder/conv', bias=True, layout=torch_links.rolled(value_channels)
    )
    links += _block('Decoder.ResMM', 'decoder/block')
    for stage in (3, 2):
        links += torch_links.conv(
            f'Decoder.RF{stage}.convFS', f'decoder/skip{stage}/conv', bias=True
        )
        links += _block(f'Decoder.RF{stage}.ResFS', f'decoder/skip{stage}/block')
        links += _block(f'Decoder.RF{stage}.ResMM', f'decoder/block{stage}')
    return links + torch_links.conv('Decoder.pred2', 'decoder/predict', bias=True)


def _block(theirs, ours):
    return [
        link
        for name in ('conv1', 'conv2')
        for link in torch_links.conv(f'{theirs}.{name}', f'{ours}/{name}', bias=True)
    ]


def _statistics():
    """Mean and standard deviation of the input, which each encoder of theirs holds."""
    values = dict(mean=protocol.MEAN, std=protocol.STD)
    return {
        f'{encoder}.{name}': np.array(numbers, np.float32).reshape(1, 3, 1, 1)
        for encoder in ('Encoder_M', 'Encoder_Q')
        for name, numbers in values.items()
    }


FORMATS = {
    'stm': torch_links.Format(
        config=CONFIG,
        links=links_of(SPEC),
        shapes=functools.cache(lambda: shapes.variable_shapes(STM(SPEC))),
        constants=_statistics(),
    )
}
