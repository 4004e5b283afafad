"""PyTorch weights in and out: a state_dict becomes a weights file of vos_jax, and back.

Neither direction needs PyTorch, and no code in the .pth file is run. The command is `vos-import`
(vos_jax.commands.import_weights).
"""

import pkgutil
from pathlib import Path

import numpy as np
from flax import traverse_util

from data_prep import torch_reader, torch_writer
from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.models import encoder_torch_names, registry, torch_links

# The PyTorch checkpoints that can be read and written, by name.
FORMATS = {**encoder_torch_names.FORMATS}
for entry in registry.MODELS.values():
    if entry.formats:
        FORMATS |= pkgutil.resolve_name(entry.formats)
PREFIXES = ('module.', '_orig_mod.')  # of torch.nn.DataParallel, of torch.compile


def import_weights(source, target, format_name):
    """Writes a PyTorch checkpoint (*.pth) as weights file (*.npz) with the model's config.

    Returns:
      One line that says what was taken.

    Raises:
      InputError: where the file is no checkpoint, or not exactly of this format of `FORMATS`.
    """
    kind = _format(format_name)
    theirs, prefix = _without_prefix(torch_reader.read(source))
    num_left_out = sum(map(kind.is_left_out, theirs))
    variables = variables_of(theirs, kind, source)
    counters = {
        name: _count(theirs[name], name, source) for name in kind.counter_names() if name in theirs
    }
    extra = {
        'source': Path(source).name,
        'torch': {'format': format_name, 'prefix': prefix, 'counters': counters},
    }
    weights.export_weights(target, variables, kind.config, extra)
    size = sum(array.size for array in weights.named(variables).values())
    left_out = f'; {num_left_out} left out' if num_left_out else ''
    return f'{source}: {len(theirs)} tensors{left_out} -> {target}: {size:,} values'


def export_weights(source, target, format_name, prefix=None):
    """Writes a weights file as PyTorch checkpoint; the inverse of `import_weights`.

    `prefix`: put before all names, as 'module.'; default: what the file was imported with.

    Returns:
      One line that says what was written.

    Raises:
      InputError: where the file holds the weights of another model.
    """
    kind = _format(format_name)
    loaded = weights.load_weights(source)
    ours = torch_links.below(loaded.variables)
    name = kind.config['model']['name']
    remedy = f'--format={format_name} writes a {name!r} of the published size'
    weights.check(ours, torch_links.below(kind.shapes()), str(source), remedy)
    about = loaded.extra.get('torch', {})
    fresh = dict.fromkeys(kind.counter_names(), 0) if kind.counters else {}
    known = about.get('counters', fresh)
    theirs = {**kind.constants, **kind.to_theirs(ours)}
    theirs |= {name: np.array(count, np.int64) for name, count in known.items()}
    prefix = about.get('prefix', '') if prefix is None else prefix
    torch_writer.write(target, {prefix + name: array for name, array in theirs.items()})
    return f'{source} -> {target}: {len(theirs)} tensors, for torch.load(weights_only=True)'


def variables_of(theirs, kind, where):
    """Variables of our model, nested, from a state_dict of arrays; every name is used once.

    Args:
      theirs: dict of arrays by name.
      kind: torch_links.Format.
      where: what the arrays are from, for messages.

    Raises:
      InputError: lists missing, unexpected and misshapen names, or names a value that is refused.
    """
    apart = {*kind.counter_names(), *filter(kind.is_left_out, theirs)}
    found = {name: array for name, array in theirs.items() if name not in apart}
    _check_names(found, kind.needed(), where)
    _check_values(found, kind.constants, where)
    ours = kind.to_ours(found)
    flat = {name: ours[name.partition('/')[2]] for name in weights.named(kind.shapes())}
    return traverse_util.unflatten_dict(flat, sep='/')


def _format(name):
    if name not in FORMATS:
        raise InputError(f'--format is {name!r}; one of {", ".join(sorted(FORMATS))}')
    return FORMATS[name]


def _without_prefix(theirs):
    for prefix in PREFIXES:
        if theirs and all(name.startswith(prefix) for name in theirs):
            bare = {name.removeprefix(prefix): array for name, array in theirs.items()}
            bare, more = _without_prefix(bare)
            return bare, prefix + more
    return theirs, ''


def _check_names(found, needed, where):
    """Every name exactly once, and in its shape."""
    misshapen = [
        f'{name} {list(found[name].shape)} for {list(shape)}'
        for name, shape in needed.items()
        if name in found and found[name].shape != shape
    ]
    wrong = {
        'missing': [name for name in needed if name not in found],
        'unexpected': [name for name in found if name not in needed],
        'misshapen': misshapen,
    }
    lists = [f'{len(items)} {kind}: {_first(items)}' for kind, items in wrong.items() if items]
    if lists:
        formats = ', '.join(sorted(FORMATS))
        raise InputError(f'{where}: of another --format (one of {formats}); {"; ".join(lists)}')


def _count(array, name, where):
    if array.size != 1 or array.dtype.kind not in 'iu':
        kind = f'{array.dtype}{list(array.shape)}'
        raise InputError(f"{where}: '{name}' is {kind}; needed: one whole number")
    return array.item()


def _first(items):
    more = f' and {len(items) - 5} more' if len(items) > 5 else ''
    return ', '.join(items[:5]) + more


def _check_values(found, constants, where):
    for name, array in found.items():
        if array.dtype != np.float32:
            raise InputError(
                f"{where}: '{name}' is {array.dtype}; needed: float32, so call model.float() "
                'before the weights are saved'
            )
        if not np.isfinite(array).all():
            raise InputError(f"{where}: '{name}' has values that are not finite; it cannot be used")
        if name in constants and not np.array_equal(array, constants[name]):
            raise InputError(
                f"{where}: '{name}' is {array.ravel()}, our models have {constants[name].ravel()}; "
                'weights of this input cannot be used'
            )
