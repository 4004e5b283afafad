"""Configs for the benchmarks, read on machines without ml_collections too."""

import contextlib
import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path

import jax

from vos_jax.config import defaults, plain
from vos_jax.errors import InputError


def load_for_device(spec, dtype=''):
    """The config with the compute dtype that suits the device.

    Args:
      spec: as for `load`.
      dtype: the wanted one; '': float32 on a CPU, where bfloat16 gains nothing, else the config's.
    """
    config = load(spec)
    if not dtype and jax.default_backend() == 'cpu':
        dtype = 'float32'
    config['model']['dtype'] = dtype or config['model']['dtype']
    return config


def load(spec):
    """Reads FILE[:VARIANT] as a nested dict of plain values.

    Args:
      spec: 'configs/giel_small.py' or 'configs/giel_small.py:tiny'.

    Raises:
      InputError: for an unknown file or variant.
    """
    name, _, variant = spec.partition(':')
    path = Path(name)
    if not path.is_file():
        there = ', '.join(sorted(p.name for p in path.parent.glob('*.py'))) or 'no configs'
        raise InputError(f'{spec}: no such file; {path.parent}/ has {there}')
    module_spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
    module = importlib.util.module_from_spec(module_spec)
    with _config_dict():
        module_spec.loader.exec_module(module)
        try:
            config = module.get_config(*([variant] if variant else []))
        except ValueError as error:  # an unknown variant, in one line
            raise InputError(str(error)) from error
    return defaults.fill(plain.to_plain(config))


class _Attributes(dict):
    """What configs use of ml_collections.ConfigDict: nested attributes and updates."""

    def __init__(self, *values, **named):
        super().__init__()
        self.update(*values, **named)

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name, value):
        self[name] = value

    def __setitem__(self, name, value):
        super().__setitem__(name, _Attributes(value) if type(value) is dict else value)

    def update(self, *values, **named):
        for name, value in dict(*values, **named).items():
            if isinstance(self.get(name), _Attributes) and isinstance(value, dict):
                self[name].update(value)
            else:
                self[name] = value

    def update_from_flattened_dict(self, values):
        for key, value in values.items():
            *groups, name = key.split('.')
            functools.reduce(getattr, groups, self)[name] = value


@contextlib.contextmanager
def _config_dict():
    """Lets a config import ml_collections; where it is absent, a stand-in with ConfigDict alone."""
    if _is_installed('ml_collections'):
        yield
        return
    stand_in = types.ModuleType('ml_collections')
    stand_in.ConfigDict = _Attributes
    sys.modules['ml_collections'] = stand_in
    try:
        yield
    finally:
        del sys.modules['ml_collections']


def _is_installed(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True
