"""Weights between our models and their PyTorch twins.

GIEL's twin has our names, with other words for the last one; STM's has those of the released code.
"""

import numpy as np
import torch
from flax import traverse_util

from benchmarks.pytorch import giel, stm
from vos_jax.models import torch_links
from vos_jax.models.stm import torch_names
from vos_jax.models.stm.model import STM

NAMES = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}


def make_twin(model, variables):
    """The twin of a model, with its weights.

    Args:
      model: vos_jax.models.giel.model.GIEL or stm.STM.
      variables: its variables.

    Returns:
      torch.nn.Module, in the mode in which it is trained.
    """
    if not isinstance(model, STM):
        module = giel.GIEL(model.spec)
        load_flax(module, variables)
        return module.train()
    module = stm.STM(model.spec)
    theirs = torch_links.to_theirs(torch_names.links_of(model.spec), torch_links.below(variables))
    _load(module, {name: torch.from_numpy(np.array(array)) for name, array in theirs.items()})
    return module.eval()  # statistics stay fixed in training


def load_flax(module, variables):
    """Copies Flax variables into a PyTorch module; every parameter must have its counterpart.

    Args:
      module: torch.nn.Module with the same names.
      variables: {'params': {...}, 'batch_stats': {...}}.
    """
    state = {}
    for group in variables.values():
        for path, value in traverse_util.flatten_dict(group).items():
            state[torch_name(path)] = torch.from_numpy(np.ascontiguousarray(to_torch(path, value)))
    _load(module, state)


def _load(module, state):
    counters = [name for name in module.state_dict() if name.endswith('num_batches_tracked')]
    state |= {name: torch.zeros((), dtype=torch.long) for name in counters}
    module.load_state_dict(state, strict=True)


def torch_name(path):
    """('key', 'kernel') -> 'key.weight'."""
    return '.'.join([*path[:-1], NAMES.get(path[-1], path[-1])])


def to_torch(path, value):
    """Kernels [kh, kw, in, out] -> [out, in, kh, kw] and [in, out] -> [out, in]."""
    value = np.asarray(value)
    if path[-1] == 'kernel':
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return value
