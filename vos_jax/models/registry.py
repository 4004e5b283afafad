"""The models by name, and the one reader of a whole config. Reading needs no jax, building does."""

import pkgutil
from typing import NamedTuple

from vos_jax.config.read import read
from vos_jax.config.schema import Config
from vos_jax.config.spec import SettingError, one_of
from vos_jax.errors import InputError


class Entry(NamedTuple):
    """Where the parts of a model are, as 'package.module:Name'.

    Attributes:
      spec: its settings; module: its Flax module.
      formats: dict of the PyTorch checkpoints of it that can be read and written; '': none.
    """

    spec: str
    module: str
    formats: str = ''


MODELS = {
    'cfbi': Entry(
        'vos_jax.models.cfbi.spec:CFBISpec',
        'vos_jax.models.cfbi.model:CFBI',
        'vos_jax.models.cfbi.torch_names:FORMATS',
    ),
    'giel': Entry('vos_jax.models.giel.spec:GIELSpec', 'vos_jax.models.giel.model:GIEL'),
    'stm': Entry(
        'vos_jax.models.stm.spec:STMSpec',
        'vos_jax.models.stm.model:STM',
        'vos_jax.models.stm.torch_names:FORMATS',
    ),
}


def read_config(mapping):
    """Makes a `Config` of a whole config.

    Args:
      mapping: dict or ConfigDict, as recipes give it, or a run or a file of weights has stored it;
        what it lacks has the schema's defaults.

    Raises:
      InputError: one line that names the setting, and what it may be or the nearest name.
    """
    values = dict(mapping.items())
    if 'model' not in values:
        raise InputError("'model' is not set; it has no default")
    return read(Config, {**values, 'model': read_model(values['model'])})


def read_model(mapping, where='model'):
    """Makes the spec of the model that a mapping names; errors as of `read_config`."""
    if not hasattr(mapping, 'items'):
        raise SettingError(where, mapping, 'needed: a group of settings')
    name = dict(mapping.items()).get('name')
    if name not in tuple(MODELS):  # it may be anything, hashable or not
        raise SettingError(f'{where}.name', name, one_of(MODELS))
    return read(pkgutil.resolve_name(MODELS[name].spec), mapping, where)


def build(spec):
    """The Flax module of a model's spec, with the methods of `protocol`.

    A `dtype` that is still 'auto' is that of JAX's own platform; `ModelSpec.resolved` decides it
    for another one.
    """
    # Here and not above: settings are read, and refused, before jax is loaded.
    import jax
    import jax.numpy as jnp

    spec = spec.resolved(jax.default_backend())
    return pkgutil.resolve_name(MODELS[spec.name].module)(spec, getattr(jnp, spec.dtype))
