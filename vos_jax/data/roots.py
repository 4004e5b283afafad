"""Where data sets are: the roots of a config are relative to one folder of data."""

import os
from pathlib import Path

from vos_jax.errors import InputError
from vos_jax.storage.paths import is_bucket, path_of

VARIABLE = 'VOS_DATA'


def data_folder():
    """The folder named by VOS_DATA, or `data` in the current folder."""
    return Path(os.environ.get(VARIABLE) or 'data')


def find_root(root):
    """The folder that the root of a data set, local or gs://, stands for.

    A relative one is looked up in the data folder, then here; InputError where it is in neither.
    """
    path = path_of(root)
    if is_bucket(path) or path.is_absolute():
        return path
    for found in (data_folder() / path, path):
        if found.exists():
            return found
    raise InputError(
        f'{root}: no such folder, neither in {data_folder()} ({VARIABLE} names another folder of '
        'data) nor here; get DAVIS by `vos-prepare davis2017 --download --out=data` and train '
        '--config=giel_small:davis, draw video by `python -m vos_jax.commands.made_up '
        '--out=data/made_up` for :tiny, or give --config.data.sources.NAME.root'
    )
