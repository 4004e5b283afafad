"""Weights as one file: arrays by name, the config they belong to, and what else should be known.

The file is a NumPy archive (.npz) without pickled objects. Checkpoints of a run, with the optimizer
and the step, are `vos_jax.checkpoint_files`.
"""

import importlib.resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vos_jax.config import plain
from vos_jax.errors import InputError
from vos_jax.storage.damage import reading
from vos_jax.storage.npz_files import read_npz, write_npz
from vos_jax.storage.paths import is_bucket, path_of

_METADATA = '__metadata__'
_FORMAT = 1
_DTYPES = ('float32', 'float16')


class Weights(NamedTuple):
    """What a weights file holds."""

    variables: dict[str, Any]  # nested: {'params': {...}, 'batch_stats': {...}}
    config: dict[str, Any]
    extra: dict[str, Any]


def export_weights(path, variables, config, extra=None, dtype='float32'):
    """Writes variables and config as one file.

    Args:
      path: the file, *.npz; it appears whole or not at all.
      variables: nested dict of arrays, as Flax gives it.
      config: ConfigDict or nested dict of plain values.
      extra: dict of plain values: training data, steps, figures, commit.
      dtype: 'float32', or 'float16' for half the size; only float arrays are cast.

    Raises:
      ValueError: for another dtype, or a weight that float16 cannot hold.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype '{dtype}' is not one of {', '.join(_DTYPES)}")
    arrays = {name: _stored(name, array, dtype) for name, array in named(variables).items()}
    about = plain.dumps({'format': _FORMAT, 'config': config, 'extra': extra or {}})
    arrays[_METADATA] = np.frombuffer(about.encode(), np.uint8)
    write_npz(path, arrays, compressed=True)


def _stored(name, array, dtype):
    array = np.asarray(array)
    if array.dtype.kind in 'iub':
        return array
    # By way of float32: NumPy's files do not know bfloat16.
    with np.errstate(over='ignore'):  # refused below, with the name
        stored = array.astype(np.float32).astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(f"'{name}' has values that are not finite in {dtype}")
    return stored


def load_weights(path):
    """Reads a file of `export_weights`; float16 becomes float32.

    Returns:
      Weights: variables (nested dict of NumPy arrays), config and extra (nested dicts).

    Raises:
      InputError: where the file is missing, damaged or something else.
    """
    from flax import traverse_util  # here: a name can be refused without it

    what = 'a whole weights file of vos_jax'
    arrays = read_npz(path, what)
    with reading(path, what):
        about = plain.loads(arrays.pop(_METADATA).tobytes().decode())
        config, extra, form = dict(about['config']), dict(about['extra']), about['format']
        if form == _FORMAT:
            arrays = {name: _loaded(name, array) for name, array in arrays.items()}
            return Weights(traverse_util.unflatten_dict(arrays, sep='/'), config, extra)
    raise InputError(
        f'{path}: of format {form!r}, this version reads {_FORMAT}; install a newer vos_jax'
    )


def _loaded(name, array):
    """The array of a file, float16 as float32; refuses what no trained model holds."""
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind not in 'iub' and array.dtype != np.float32:
        raise ValueError(f"'{name}' is in {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"'{name}' has values that are not finite")
    return array


def pretrained() -> dict[str, Path]:
    """Files of the weights that come with the package, by name."""
    folder = Path(str(importlib.resources.files('vos_jax') / 'pretrained'))
    return {path.stem: path for path in sorted(folder.glob('*.npz'))}


def find(name_or_path) -> Path:
    """The file of weights that a path, or the name of weights of the package, stands for.

    >>> find('giel_small').name
    'giel_small.npz'

    Raises:
      InputError: where there is neither; it lists the names.
    """
    path = path_of(name_or_path)
    if is_bucket(path) or path.is_file():
        return path
    known = pretrained()
    if path.name == str(name_or_path) and path.name in known:
        return known[path.name]
    if path.exists():
        return path  # a folder, which the reader refuses as one
    raise InputError(
        f'{name_or_path}: no such file; weights are a file, or one of {", ".join(known)}'
    )


def named(variables):
    """Dict of arrays by '/'-joined name: {'params': {'key': x}} -> {'params/key': x}."""
    from flax import traverse_util

    return traverse_util.flatten_dict(dict(variables), sep='/')


def check(found, needed, where, remedy):
    """Refuses arrays of another model.

    Args:
      found, needed: dicts of arrays (or of anything with `shape` and `dtype`) by name.
      where: what the arrays were found in, as 'checkpoint runs/a/4000'.
      remedy: what to do instead.

    Raises:
      InputError: names the first array that differs, and how many there are.
    """
    complaints = [
        complaint
        for name in sorted(found.keys() | needed.keys())
        if (complaint := _complaint(name, found.get(name), needed.get(name)))
    ]
    if complaints:
        more = f' (and {len(complaints) - 1} more)' if len(complaints) > 1 else ''
        raise InputError(f'{where} {complaints[0]}{more}; {remedy}')


def _complaint(name, found, needed):
    if found is None:
        return f"has no '{name}', which this config needs"
    if needed is None:
        return f"has '{name}', which this config does not know"
    if tuple(found.shape) != tuple(needed.shape):
        return f"has '{name}' of shape {list(found.shape)}, this config needs {list(needed.shape)}"
    if found.dtype != needed.dtype:
        return f"has '{name}' in {found.dtype}, this config needs {needed.dtype}"
    return None
