"""Runs a model that `python -m vos_jax.commands.export` wrote, with jax and NumPy alone.

This folder is copied beside the exported model and imports nothing else of vos_jax:

  PYTHONPATH=FOLDER python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy
"""

from .loader import Exported

__all__ = ['Exported']
