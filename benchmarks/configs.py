"""Configs for the benchmarks, read on machines without ml_collections too."""

import contextlib
import dataclasses
import functools
import importlib.util
import sys
import types

import jax

from vos_jax import recipe


def load_for_device(spec, dtype='', **training):
    """The config with the compute dtype that suits the device.

    Args:
      spec: as for `load`.
      dtype: the wanted one; '': the config's.
      training: fields of `config.training` to change.
    """
    config = load(spec)
    model = dataclasses.replace(config.model, dtype=dtype or config.model.dtype)
    model = model.resolved(jax.default_backend())
    training = dataclasses.replace(config.training, **training)
    data = dataclasses.replace(config.data, slot_window=1)  # made-up batches use all their slots
    return dataclasses.replace(config, model=model, data=data, training=training)


def load(spec):
    """The `Config` of FILE[:VARIANT], as the commands read it."""
    with _config_dict():
        return recipe.load(spec)


class _Attributes(dict):
    """What recipes use of ml_collections.ConfigDict: nested attributes and updates."""

    def __getattr__(self, name):
        if type(self[name]) is dict:
            self[name] = _Attributes(self[name])
        return self[name]

    __setattr__ = dict.__setitem__

    def update_from_flattened_dict(self, values):
        for key, value in values.items():
            *groups, name = key.split('.')
            functools.reduce(getattr, groups, self)[name] = value


@contextlib.contextmanager
def _config_dict():
    """Lets a recipe import ml_collections; where it is absent, a stand-in with ConfigDict alone."""
    if importlib.util.find_spec('ml_collections'):
        yield
        return
    stand_in = types.ModuleType('ml_collections')
    stand_in.ConfigDict = _Attributes
    sys.modules['ml_collections'] = stand_in
    try:
        yield
    finally:
        del sys.modules['ml_collections']
