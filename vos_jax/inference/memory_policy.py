"""The memory's policy: which processed frames a query frame reads, and which are kept."""

from vos_jax.config.schema import POLICIES
from vos_jax.config.schema import MemorySpec as MemorySettings

# Theirs is the code; it lies where an exported model finds it without this package.
from vos_jax.inference.program.vos_loader.selection import keep, nearest, select, thin

__all__ = ['POLICIES', 'MemorySettings', 'keep', 'nearest', 'select', 'thin']
