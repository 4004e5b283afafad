"""From a mapping to a spec: known names, nothing missing, values of the right type and range."""

import dataclasses
import difflib
import types
import typing

from vos_jax.config.spec import SettingError, Spec, hints, one_of
from vos_jax.errors import InputError


def read(kind, mapping, where=''):
    """Makes a spec of a mapping.

    Args:
      kind: a dataclass derived from `Spec`.
      mapping: dict or ConfigDict of plain values; groups of settings are mappings in it, or specs
        that were read already. Several groups (`sources`) are a list, or a mapping from each one's
        name to its settings.
      where: key of the mapping in the whole config, for errors; '': it is the whole.

    Returns:
      The spec; settings that the mapping lacks have their defaults.

    Raises:
      InputError: one line that names the setting, what it may be, or the nearest name.

    >>> from vos_jax.config.schema import OptimizerSpec
    >>> read(OptimizerSpec, {'learning_rat': 1e-4}, 'optimizer')
    Traceback (most recent call last):
    vos_jax.errors.InputError: 'optimizer.learning_rat' is not a setting;
      nearest: 'optimizer.learning_rate'
    """
    if not hasattr(mapping, 'items'):
        raise SettingError(where or 'config', mapping, 'needed: a group of settings')
    types_of = hints(kind)
    values = {}
    for name, value in mapping.items():
        if name not in types_of:
            nearest = difflib.get_close_matches(str(name), types_of, n=1, cutoff=0)[0]
            raise InputError(
                f"'{_join(where, name)}' is not a setting; nearest: '{_join(where, nearest)}'"
            )
        values[name] = _groups(types_of[name], value, _join(where, name))
    for field in dataclasses.fields(kind):
        if field.name not in values and field.default is dataclasses.MISSING:
            raise InputError(f"'{_join(where, field.name)}' is not set; it has no default")
    try:
        return kind(**values)
    except SettingError as error:
        raise error.below(where) from None


def _join(where, name):
    return f'{where}.{name}' if where else str(name)


def _groups(hint, value, where):
    """The value with specs where the type has specs and the value mappings."""
    if isinstance(value, Spec):
        return value
    kinds = groups_of(hint)
    if kinds and hasattr(value, 'items'):
        return read(_chosen(kinds, value, where), value, where)
    kind = item_group_of(hint)
    if kind is None:
        return value
    if hasattr(value, 'items'):
        named = ((f'{where}.{name}', name, group) for name, group in value.items())
        return tuple(_read_item(kind, group, path, {'name': name}) for path, name, group in named)
    if not isinstance(value, list | tuple):
        return value
    return tuple(
        _read_item(kind, group, f'{where}[{index}]', {}) for index, group in enumerate(value)
    )


def _read_item(kind, group, where, known):
    if isinstance(group, Spec):
        return group
    if not hasattr(group, 'items'):
        raise SettingError(where, group, 'needed: a group of settings')
    return read(kind, {**known, **dict(group.items())}, where)


def _chosen(kinds, mapping, where):
    """Of several specs the one whose `kind` the mapping has; the first where it has none."""
    if len(kinds) == 1:
        return kinds[0]
    names = {kind.kind: kind for kind in kinds}
    name = dict(mapping.items()).get('kind', kinds[0].kind)
    if name not in tuple(names):
        raise SettingError(f'{where}.kind', name, one_of(names))
    return names[name]


def groups_of(hint):
    """The specs that a type may be: of `Jitter | None` it is (Jitter,); () for plain values."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in groups_of(part))
    return (hint,) if isinstance(hint, type) and issubclass(hint, Spec) else ()


def item_group_of(hint):
    """The spec of which a type is a tuple of any length, or None."""
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is Ellipsis:
        return next(iter(groups_of(typing.get_args(hint)[0])), None)
    return None


def changed(spec, where, **changes):
    """The spec with other values; those that are None stay as they are.

    Args:
      spec: any spec.
      where: its key in the whole config, for errors, which are those of `read`.
    """
    kept = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    chosen = {name: value for name, value in changes.items() if value is not None}
    return read(type(spec), {**kept, **chosen}, where) if chosen else spec
