"""The one place that turns a config into a model."""

import dataclasses

import jax.numpy as jnp

from vos_jax.models.giel import GIEL, GIELSpec
from vos_jax.models.resnet import EncoderSpec

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def build(config):
    """Builds the model of a config.

    Args:
      config: mapping with `name`, `dtype` and the settings of the model's spec (`config.model`).

    Returns:
      A Flax module with the methods of `contract`.

    Raises:
      ValueError: for an unknown model, dtype or setting; the message lists what is allowed.
    """
    settings = {k: config[k] for k in config}
    name, dtype = settings.pop('name'), settings.pop('dtype')
    if dtype not in DTYPES:
        raise ValueError(f"model.dtype: '{dtype}' is not one of {', '.join(DTYPES)}")
    if name == 'giel':
        encoder = _spec(EncoderSpec, settings.pop('encoder'), 'model.encoder')
        return GIEL(_spec(GIELSpec, {**settings, 'encoder': encoder}, 'model'), DTYPES[dtype])
    raise ValueError(f"model.name: '{name}' is not one of giel")


def _spec(kind, settings, where):
    allowed = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise ValueError(f"{where}: '{unknown[0]}' is not a setting; allowed: {', '.join(allowed)}")
    return kind(**{k: _frozen(v) for k, v in settings.items()})


def _frozen(value):
    """Lists as tuples, so that a spec is hashable."""
    return tuple(value) if isinstance(value, (list, tuple)) else value
