"""Semi-supervised video object segmentation in JAX: GIEL, CFBI and STM."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from vos_jax.errors import InputError
    from vos_jax.inference.segmenter import Segmenter
    from vos_jax.trained import TrainedModel, open_model

__version__ = '0.1.0'
__all__ = ['InputError', 'Segmenter', 'TrainedModel', '__version__', 'open_model']

# Imported when they are asked for: scoring masks, and `vos-evaluate --help`, do without jax.
_HOMES = {
    'InputError': 'vos_jax.errors',
    'Segmenter': 'vos_jax.inference.segmenter',
    'TrainedModel': 'vos_jax.trained',
    'open_model': 'vos_jax.trained',
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'vos_jax' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
