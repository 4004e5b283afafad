"""Configs: read from a recipe, overridden by flags, stored with a run, compared when it resumes.

A recipe is a file of `configs/`, or of the user's own, and gives an ml_collections ConfigDict, as
flags do; everything else takes the `Config` made of them.
"""

import dataclasses
import difflib
import importlib.resources
import importlib.util
import re
import sys
from pathlib import Path

from absl import flags

from vos_jax.config import plain
from vos_jax.config.read import changed
from vos_jax.errors import InputError
from vos_jax.models.registry import read_config
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.paths import explained, is_bucket, path_of

FILE_NAME = 'config.json'
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]+)')
# A run resumes only with these unchanged: its weights would not fit, or its data would be others.
_FIXED = re.compile(r'(model\.|seed$)')


def define_flag(flag_values=flags.FLAGS, argv=None):
    """Defines `--config=NAME_OR_FILE[:VARIANT]` with overrides `--config.key.of.setting=value`.

    Unknown keys, files and variants end the parsing of flags with one line. `argv`: the arguments
    that will be parsed, where these are not `sys.argv`.

    Returns:
      absl's FlagHolder; its value is a locked ConfigDict of all settings, for `read_config`.
    """
    from ml_collections import config_flags  # here: only commands with this flag need it

    holder = config_flags.DEFINE_config_file(
        'config', None, 'recipe as giel_small[:VARIANT], or a file', flag_values, sys_argv=argv
    )
    flag_values['config'].parser = _Reader(sys.argv if argv is None else argv)
    return holder


def load(spec, overrides=()):
    """Reads a Config as the commands do.

    Args:
      spec: 'giel_small', 'giel_small:tiny', or a file instead of the name.
      overrides: strings 'optimizer.learning_rate=1e-4', as after `--config.`.

    Raises:
      InputError: for an unknown file, variant or key, or a value that a setting may not have.
    """
    if not overrides:
        try:
            return read_config(_read(spec))
        except ValueError as error:
            raise InputError(f'{spec}: {error}') from error
    values = flags.FlagValues()
    argv = ['load', f'--config={spec}', *(f'--config.{override}' for override in overrides)]
    define_flag(flag_values=values, argv=argv)
    try:
        values(argv)
    except flags.Error as error:
        message = str(error).removeprefix('flag --config=').removeprefix('flag ')
        raise InputError(message) from error
    return read_config(values.config)


def folder():
    """The folder of the recipes: `configs/` of a checkout, `vos_jax/recipes` of an installation."""
    package = Path(str(importlib.resources.files('vos_jax')))
    installed = package / 'recipes'
    return installed if installed.is_dir() else package.parent / 'configs'


def find(name_or_path):
    """The file that a path, or the name of a recipe, stands for.

    What ends in .py or is in a folder is a path.

    >>> find('giel_small').name
    'giel_small.py'

    Raises:
      ValueError: where there is none; it names those there are, or the nearest.
    """
    path = Path(name_or_path)
    known = {file.stem: file for file in folder().glob('*.py')}
    if path.suffix == '.py' or path.parent != Path():
        if path.is_file():
            return path
        there = ', '.join(sorted(p.name for p in path.parent.glob('*.py'))) or 'none'
        raise ValueError(
            f'no such file; {path.parent}/ has {there}; by name: {", ".join(sorted(known))}'
        )
    if path.name not in known:
        near = difflib.get_close_matches(path.name, known, n=1, cutoff=0)
        nearest = f"nearest: '{near[0]}'" if near else 'none is installed'
        raise ValueError(f"no recipe '{path.name}'; {nearest}; or give a file, as configs/a.py")
    return known[path.name]


class _Reader(flags.ArgumentParser):
    """Reads FILE:VARIANT and checks the keys of all overrides on the command line."""

    def __init__(self, argv):
        self._argv = argv

    def parse(self, spec):
        from ml_collections import ConfigDict

        # All settings, those too that the recipe leaves to the schema: flags may change any.
        config = _open_none(ConfigDict(plain.to_plain(read_config(_read(spec)))))
        for match in filter(None, map(_OVERRIDE.match, self._argv)):
            _check_key(match[1], config)
        return config.lock()

    def flag_type(self):
        return 'config file'


def _read(spec):
    # absl puts `flag --config=SPEC: ` before the text of a ValueError.
    name, _, variant = spec.partition(':')
    path = find(name)
    module_spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
    if module_spec is None or module_spec.loader is None:
        raise ValueError('not a Python file, its name ends in something else than .py')
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, 'get_config'):
        raise ValueError('the file has no function get_config(variant)')
    variants = getattr(module, 'VARIANTS', None)
    if variant and variants and variant not in variants:
        raise ValueError(f"variant '{variant}' is not one of {', '.join(variants)}")
    return module.get_config(*([variant] if variant else []))


def _open_none(config):
    """Lets flags override settings that are None, with any literal."""
    from ml_collections import config_dict

    for key in config:
        if hasattr(config[key], 'items'):
            _open_none(config[key])
        elif config.get_type(key) is type(None):
            config[key] = config_dict.placeholder(object)
    return config


def _check_key(key, config):
    bare = key.partition('[')[0]  # sources[0] is an item of sources
    known = _all_keys(config)
    if bare not in known:
        near = difflib.get_close_matches(bare, known, n=1, cutoff=0)[0]
        inside = [name for name in known if name.startswith(f'{near}.')]
        if inside and bare.startswith(f'{near}.'):
            raise ValueError(f"'{key}' is not a setting; there are {', '.join(inside)}")
        raise ValueError(f"'{key}' is not a setting; nearest: '{near}'")


def _all_keys(config, prefix=''):
    """Dotted keys of all settings and of the groups that hold them."""
    keys = []
    for key in config:
        keys.append(prefix + key)
        if hasattr(config[key], 'items'):
            keys += _all_keys(config[key], f'{prefix}{key}.')
    return keys


def save(config, workdir):
    """Stores the resolved config in the run's folder, for its resumption and for evaluation."""
    write_bytes(path_of(workdir) / FILE_NAME, (plain.dumps(config) + '\n').encode())


def stored(workdir):
    """The `Config` that a run stored; settings that are younger than the run have their defaults.

    Raises:
      InputError: where there is none, or it cannot be read.
    """
    path = path_of(workdir) / FILE_NAME
    remedy = 'restore the file'
    with explained(path, 'cannot be read'):
        if not path.exists():
            if (path.parent / 'checkpoints').exists():
                raise InputError(f'{path}: no such file beside its checkpoints; {remedy}')
            if not is_bucket(path):
                raise InputError(f'{path}: no such file; name the folder of a run of train.py')
    with reading(path, 'a stored config', remedy):
        mapping = plain.loads(path.read_text())
        if not isinstance(mapping, dict):
            raise ValueError('no group of settings')
    try:
        return read_config(mapping)
    except InputError as error:
        raise InputError(f'{path}: not a stored config ({error}); {remedy}') from error


def changes(config, workdir):
    """Lines, for the log, of what differs between a run's stored config and that which resumes it.

    `config`: its model's dtype decided for the devices; so is a stored 'auto'.

    Raises:
      InputError: where another value would make it another run.
    """
    old = stored(workdir)
    if old.model.dtype == 'auto':
        old = dataclasses.replace(old, model=changed(old.model, '', dtype=config.model.dtype))
    found = plain.differences(old, config)
    for key, old, new in found:
        if _FIXED.match(key):
            raise InputError(
                f"{path_of(workdir) / FILE_NAME}: this run has '{key}' {old!r}, the config says "
                f'{new!r}; resume it with its own value, or start another run in a new --workdir'
            )
    return [f'{key}: {old!r} -> {new!r}' for key, old, new in found]
