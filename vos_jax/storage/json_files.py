"""JSON files: read with the form that they must have, written whole."""

import json

from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.paths import path_of


def read_json(path, check=None, remedy='copy it again'):
    """Reads a JSON file; the checksum of one that was sealed (`checksum.seal`) is compared.

    Args:
      path: the file.
      check: the form of its values, as `check_form` takes it; or a function of the values, which
        raises any exception where they are wrong.
      remedy: what to do about a wrong file, the end of the message.

    Raises:
      InputError: where the file is missing, cannot be read, is no JSON or of another form.
    """
    with reading(path, 'a JSON file', remedy):
        data = path_of(path).read_bytes()
    return parse_json(data, path, check, remedy)


def parse_json(data, where, check=None, remedy='copy it again'):
    """Reads JSON from bytes in UTF-8, for a file inside of an archive; see `read_json`."""
    with reading(where, 'a whole JSON file', remedy):
        values = json.loads(data.decode('utf-8-sig'))
        is_ours = isinstance(values, dict) and isinstance(values.get('checksum'), int)
        if is_ours and not checksum.is_whole(values):
            raise ValueError('it differs from its checksum')
    if callable(check) and not isinstance(check, type):
        with reading(where, 'a file of the form needed', remedy):
            check(values)
    elif check is not None:
        _check(values, check, '', f'{where}: ', f'; {remedy}')
    return values


def write_json(path, values, indent: int | None = 1):
    """Writes dicts, lists, text, numbers and None as a whole file; indent=None: on one line."""
    write_bytes(path, (json.dumps(values, indent=indent) + '\n').encode())


def check_form(values, form, where, remedy='copy it again'):
    """Compares plain values with a form.

    Args:
      values: as `json.loads` gives them.
      form: a type, or types joined by `|`; a whole number is a float too, but a truth value is no
        number. `[form]` is a list of any length, `(a, b)` one of two. `{'key': form}` needs the
        key, `{'key?': form}` does not, further keys are free; `{str: form}` is a dict of any keys.
      where: the file, the begin of the message.
      remedy: its end.

    Raises:
      InputError: names the first value that is wrong.

    >>> check_form({'size': [480, '854']}, {'size': (int, int)}, 'a.json')
    Traceback (most recent call last):
    vos_jax.errors.InputError: a.json: 'size.1' is '854', needed: int; copy it again
    """
    _check(values, form, '', f'{where}: ', f'; {remedy}')


def _check(value, form, name, where, remedy):
    problem = None
    if isinstance(form, dict):
        problem = _check_dict(value, form, name, where, remedy)
    elif isinstance(form, list | tuple):
        problem = _check_list(value, form, name, where, remedy)
    elif not _is_of(value, form):
        problem = getattr(form, '__name__', str(form))
    if problem:
        text = repr(value)
        text = text if len(text) <= 60 else f'{text[:57]}...'
        named = f"'{name}' is {text}" if name else f'holds {text}'
        raise InputError(f'{where}{named}, needed: {problem}{remedy}')


def _check_dict(value, form, name, where, remedy):
    if not isinstance(value, dict):
        return 'names with values'
    if str in form:
        for key, item in value.items():
            _check(item, form[str], _joined(name, key), where, remedy)
        return None
    for key, part in form.items():
        plain = key.removesuffix('?')
        if plain in value:
            _check(value[plain], part, _joined(name, plain), where, remedy)
        elif plain == key:
            raise InputError(f"{where}'{_joined(name, key)}' is missing{remedy}")
    return None


def _check_list(value, form, name, where, remedy):
    if not isinstance(value, list):
        return 'a list'
    if isinstance(form, tuple) and len(value) != len(form):
        return f'a list of {len(form)}'
    parts = form if isinstance(form, tuple) else form * len(value)
    for number, (item, part) in enumerate(zip(value, parts)):
        _check(item, part, _joined(name, number), where, remedy)
    return None


def _is_of(value, form):
    types = getattr(form, '__args__', (form,))
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (float in types and isinstance(value, int))


def _joined(name, key):
    return f'{name}.{key}' if name else str(key)
