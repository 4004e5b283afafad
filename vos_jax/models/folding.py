"""Variables for inference: norms with stored statistics become part of the convolutions."""

import numpy as np
from flax import traverse_util

EPSILON = 1e-5  # of all batch norms of the models


def fold(variables):
    """Puts each batch norm into the convolution before it: 'norm1' into 'conv1' beside it.

    The model applied to the result gives the same, without the norms: a ResNet-50 of frozen norms
    has a third of the arrays to hand to each call. Training needs the variables as they were.

    Args:
      variables: nested dict of arrays, of any model.

    Returns:
      The nested dict with kernels and biases of NumPy instead of norms; `variables` itself where
      there is nothing to fold.
    """
    arrays = traverse_util.flatten_dict(variables)
    norms = [path[1:-1] for path in arrays if path[0] == 'batch_stats' and path[-1] == 'mean']
    pairs = [(norm, (*norm[:-2], norm[-2].replace('norm', 'conv'))) for norm in norms]
    pairs = [(norm, conv) for norm, conv in pairs if ('params', *conv, 'kernel') in arrays]
    for norm, conv in pairs:
        stored = {
            path[-1]: np.asarray(arrays.pop(path), np.float64)
            for path in [*arrays]
            if path[1:-1] == norm
        }
        factor = stored['scale'] / np.sqrt(stored['var'] + EPSILON)
        kernel, bias = ('params', *conv, 'kernel'), ('params', *conv, 'bias')
        summand = stored['bias'] + (np.asarray(arrays.get(bias, 0.0)) - stored['mean']) * factor
        arrays[kernel] = (np.asarray(arrays[kernel]) * factor).astype(np.float32)
        arrays[bias] = summand.astype(np.float32)
    return traverse_util.unflatten_dict(arrays) if pairs else variables
