"""Recipes by name: the files of `configs/`, which an installed package has with it."""

import difflib
import importlib.resources
from pathlib import Path


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
    if path.suffix == '.py' or path.parent != Path():
        if path.is_file():
            return path
        there = ', '.join(sorted(p.name for p in path.parent.glob('*.py'))) or 'no configs'
        raise ValueError(f'no such file; {path.parent}/ has {there}')
    known = {file.stem: file for file in folder().glob('*.py')}
    if path.name not in known:
        near = difflib.get_close_matches(path.name, known, n=1, cutoff=0)
        nearest = f"nearest: '{near[0]}'" if near else 'none is installed'
        raise ValueError(f"no recipe '{path.name}'; {nearest}; or give a file, as configs/a.py")
    return known[path.name]
