"""Weights that a fresh run starts from: those of `config.init`, put into a random state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.models import torch_links
from vos_jax.processes import say


def warm_start(state, path, encoders=()):
    """Starts a state from the weights of a file, and prints what was taken and what starts new.

    A file holds a whole model, whose arrays are taken by name, or an encoder, which starts each
    encoder of the model. Inputs that the encoder did not have (masks) start with zeros. Arrays the
    file lacks stay as they are; but where it has a part of the model, it must fit.

    Args:
      state: a fresh TrainState.
      path: file of `weights.export_weights` or `data_prep.import_weights`; '': none.
      encoders: parts of the model that an encoder's weights are for, `protocol.Model.encoders`.

    Returns:
      The state; its moving average, if it has one, starts from the same weights.

    Raises:
      InputError: for a file that is missing or damaged, or does not fit the model.
    """
    if not path:
        return state
    # Below the collection: whether a norm is trained is the config's affair.
    found = torch_links.below(weights.load_weights(weights.find(path)).variables)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    needed = weights.named(variables)
    taken = {}
    for name, array in needed.items():
        source = _source(name.partition('/')[2], found, encoders)
        if source is not None:
            value = _fitted(found[source], array, f"{path}: '{source}'")
            taken[name] = _Taken(source, value, value.shape != found[source].shape)
    _check_all_used(path, found, taken)
    say(_table(path, needed, taken))
    leaves = {}
    for name, item in taken.items():
        like = needed[name]
        value = np.asarray(item.value, like.dtype)
        placed = isinstance(like, jax.Array)
        leaves[name] = jax.device_put(value, like.sharding) if placed else value
    filled = traverse_util.unflatten_dict({**needed, **leaves}, sep='/')
    params = filled['params']
    # Copied: the train step gives both buffers away.
    ema = jax.tree.map(jnp.copy, params) if state.ema else state.ema
    return state.replace(params=params, batch_stats=filled.get('batch_stats', {}), ema=ema)


class _Taken(NamedTuple):
    source: str
    value: np.ndarray
    is_widened: bool


def _source(path, found, encoders):
    """Name in the file of an array of ours, or None."""
    if path in found:
        return path
    part, _, rest = path.partition('/')
    name = f'encoder/{rest}'
    return name if part in encoders and name in found else None


def _fitted(value, needed, where):
    """The value, with zeros for further input channels of a first convolution."""
    missing = [a - b for a, b in zip(needed.shape, value.shape)]
    if value.ndim == needed.ndim == 4 and missing[2] > 0 and missing == [0, 0, missing[2], 0]:
        return np.pad(value, [(0, 0), (0, 0), (0, missing[2]), (0, 0)])
    if value.shape != needed.shape:
        raise InputError(
            f'{where} has shape {list(value.shape)}, the model of this config needs '
            f'{list(needed.shape)}; change config.model or config.init'
        )
    return value


def _check_all_used(path, found, taken):
    """Of a part that is taken, everything must be: half an encoder is no start."""
    used = {item.source for item in taken.values()}
    parts = {source.partition('/')[0] for source in used}
    left = [name for name in found if name.partition('/')[0] in parts and name not in used]
    if not used:
        first = next(iter(found), 'nothing')
        raise InputError(
            f"{path}: nothing in it fits the model of this config (it has '{first}', ...); "
            'config.init names weights of this model or of a backbone'
        )
    if left:
        raise InputError(
            f"{path}: the model of this config has no place for '{left[0]}' and {len(left) - 1} "
            'more, though it has for others; is config.model.encoder that of the file (norm)?'
        )


def _table(path, needed, taken):
    """One line for each part of the model."""
    parts = dict.fromkeys(name.split('/')[1] for name in needed)
    lines = [f'start from {path}:']
    for part in parts:
        names = [name for name in needed if name.split('/')[1] == part]
        old = [taken[name] for name in names if name in taken]
        size = sum(needed[name].size for name in names)
        notes = ['new' if not old else f"from '{old[0].source.partition('/')[0]}'"]
        if old and len(old) < len(names):
            notes.append(f'{len(names) - len(old)} arrays new')
        notes += [f'zeros for more inputs of {t.source}' for t in old if t.is_widened]
        lines.append(f'  {part:20} {len(names):4} arrays {size:12,} values  {", ".join(notes)}')
    return '\n'.join(lines)
