"""The one place that turns a config into a model."""

import dataclasses
import difflib

import jax.numpy as jnp

from vos_jax.errors import InputError
from vos_jax.models.cfbi.deeplab import DeepLabSpec
from vos_jax.models.cfbi.model import CFBI
from vos_jax.models.cfbi.spec import CFBISpec
from vos_jax.models.efficientnet_lite import LiteSpec
from vos_jax.models.giel.model import GIEL
from vos_jax.models.giel.spec import GIELSpec
from vos_jax.models.resnet import EncoderSpec
from vos_jax.models.stm.model import STM
from vos_jax.models.stm.spec import STMSpec

# `model.encoder.kind`; without one, as in files from before there was a choice, a ResNet.
ENCODERS = {'resnet': EncoderSpec, 'efficientnet_lite0': LiteSpec}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def build(config):
    """Builds the model of a config.

    Args:
      config: mapping with `name`, `dtype` and the settings of the model's spec (`config.model`).

    Returns:
      A Flax module with the methods of `contract`.

    Raises:
      InputError: for an unknown model, dtype or setting; the message lists what is allowed.
    """
    settings = {k: config[k] for k in config}
    name, dtype = settings.pop('name'), settings.pop('dtype')
    if dtype not in DTYPES:
        raise InputError(f"'model.dtype' is {dtype!r}; one of {', '.join(map(repr, DTYPES))}")
    if name == 'giel':
        encoder = _encoder(settings.pop('encoder'), ENCODERS)
        return GIEL(_spec(GIELSpec, {**settings, 'encoder': encoder}, 'model'), DTYPES[dtype])
    if name == 'stm':
        encoder = _encoder(settings.pop('encoder'), {'resnet': EncoderSpec})
        return STM(_spec(STMSpec, {**settings, 'encoder': encoder}, 'model'), DTYPES[dtype])
    if name == 'cfbi':
        backbone = _spec(DeepLabSpec, settings.pop('backbone'), 'model.backbone')
        return CFBI(_spec(CFBISpec, {**settings, 'backbone': backbone}, 'model'), DTYPES[dtype])
    raise InputError(f"'model.name' is {name!r}; one of 'cfbi', 'giel', 'stm'")


def _encoder(settings, kinds):
    settings = {k: settings[k] for k in settings}
    kind = settings.pop('kind', 'resnet')
    if kind not in kinds:
        raise InputError(f"'model.encoder.kind' is {kind!r}; one of {', '.join(map(repr, kinds))}")
    return _spec(kinds[kind], settings, 'model.encoder')


def _spec(kind, settings, where):
    allowed = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], allowed, n=1, cutoff=0)[0]
        raise InputError(f"'{where}.{unknown[0]}' is not a setting; nearest: '{where}.{nearest}'")
    return kind(**{k: _frozen(v) for k, v in settings.items()})


def _frozen(value):
    """Lists as tuples, so that a spec is hashable."""
    return tuple(value) if isinstance(value, (list, tuple)) else value
