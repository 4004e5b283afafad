"""Runs a model that `python -m vos_jax.commands.export` wrote, with jax and NumPy alone.

This folder is copied beside the exported model and imports nothing else of vos_jax:

  PYTHONPATH=FOLDER python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy
"""

import typing

if typing.TYPE_CHECKING:
    from .loader import Exported

__all__ = ['Exported']


def __getattr__(name):
    # Here: jax takes its time, and damage is reported before.
    if name != 'Exported':
        raise AttributeError(name)
    from .loader import Exported

    return Exported
