"""Weights between Flax and the PyTorch twin: the same names, other words for the last one."""

import numpy as np
import torch
from flax import traverse_util

NAMES = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}


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
    counters = [name for name in module.state_dict() if name.endswith('num_batches_tracked')]
    state |= {name: torch.zeros((), dtype=torch.long) for name in counters}
    module.load_state_dict(state, strict=True)


def read_flax(tensors, like):
    """Tensors by PyTorch's name as a tree of the form of `like`, as NumPy arrays.

    Args:
      tensors: dict of name -> tensor, a state_dict or gradients.
      like: nested dict of Flax parameters or of their shapes.
    """
    flat = {}
    for path, leaf in traverse_util.flatten_dict(like).items():
        value = tensors[torch_name(path)].detach().cpu().numpy()
        flat[path] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        if flat[path].shape != leaf.shape:
            raise ValueError(f'{"/".join(path)}: {flat[path].shape}, needed {leaf.shape}')
    return traverse_util.unflatten_dict(flat)


def torch_name(path):
    """('key', 'kernel') -> 'key.weight'."""
    return '.'.join([*path[:-1], NAMES.get(path[-1], path[-1])])


def to_torch(path, value):
    """Kernels [kh, kw, in, out] -> [out, in, kh, kw] and [in, out] -> [out, in]."""
    value = np.asarray(value)
    if path[-1] == 'kernel':
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return value
