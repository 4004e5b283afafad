"""Settings as plain values: of specs, to JSON and back, flattened, compared.

In JSON an array is a tuple, because settings are tuples nearly always; a list is marked.
"""

import json
from collections.abc import Mapping
from typing import Any

from vos_jax.config.read import item_group_of
from vos_jax.config.spec import Spec, hints

ABSENT = '(absent)'
_LIST = '__list__'


def to_plain(config):
    """Nested dict of a config's values; tuples, lists and None stay what they are.

    Args:
      config: a spec, which `read` makes again of the result; or a dict or ConfigDict with values
        that are text, numbers, booleans, None, specs, or tuples, lists and mappings of these.

    Raises:
      TypeError: for another value, naming its key.
    """
    if isinstance(config, Spec):
        return _plain(config, '')
    return {key: _plain(value, key) for key, value in config.items()}


def _of_spec(spec, where):
    values = {}
    for name, hint in hints(type(spec)).items():
        value = getattr(spec, name)
        if item_group_of(hint) and len({item.name for item in value} - {''}) == len(value):
            # A mapping by name: flags reach `sources.NAME.root`.
            value = {item.name: _of_spec(item, where) for item in value}
            for group in value.values():
                del group['name']
        values[name] = _plain(value, f'{where}.{name}')
    return values


def _plain(value, where):
    if isinstance(value, Spec):
        return _of_spec(value, where)
    if isinstance(value, Mapping) or hasattr(value, 'items'):  # ConfigDict is no Mapping
        return {key: _plain(item, f'{where}.{key}') for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_plain(item, f'{where}[{i}]') for i, item in enumerate(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"'{where}' is a {type(value).__name__}; settings are plain values")


def dumps(config):
    """JSON text of a config; `loads` gives the same values back.

    >>> print(dumps({'data': {'sizes': (384, 740), 'names': ['a'], 'crop': None}}))
    {
      "data": {
        "sizes": [384, 740],
        "names": {"__list__": ["a"]},
        "crop": null
      }
    }
    """
    return _text(to_plain(config), '')


def _text(value, indent):
    """Mappings over several lines, everything else on one."""
    if not isinstance(value, dict) or not value:
        return json.dumps(_marked(value))
    inner = indent + '  '
    lines = [f'{inner}{json.dumps(key)}: {_text(item, inner)}' for key, item in value.items()]
    return '{\n' + ',\n'.join(lines) + f'\n{indent}}}'


def _marked(value):
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list):
        return {_LIST: [_marked(item) for item in value]}
    return tuple(_marked(item) for item in value) if isinstance(value, tuple) else value


def loads(text) -> Any:
    """The nested dict that `dumps` wrote."""
    return _unmarked(json.loads(text))


def _unmarked(value):
    if isinstance(value, list):
        return tuple(_unmarked(item) for item in value)
    if isinstance(value, dict) and set(value) == {_LIST}:
        return [_unmarked(item) for item in value[_LIST]]
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items()}
    return value


def flatten(config, prefix=''):
    """Dict of dotted keys: {'optimizer': {'name': 'adam'}} -> {'optimizer.name': 'adam'}."""
    flat = {}
    for key, value in to_plain(config).items():
        if isinstance(value, dict):
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[prefix + key] = value
    return flat


def differences(old, new):
    """What differs between two configs.

    Returns:
      List of (dotted key, old value, new value), sorted; ABSENT stands for a key that is not there.
    """
    old, new = flatten(old), flatten(new)
    return [
        (key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in sorted(old.keys() | new.keys())
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]
