import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# What a GPU machine without network may lack.
ABSENT = (
    'clu cv2 grain ml_collections orbax simplejpeg tensorboard tensorflow tensorflow_datasets torch'
)
REFUSE = """
import importlib.util
import sys

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition('.')[0] in {absent} else find_spec(name, package)
)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {absent}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def run_command(forks):
    """Returns a function: runs `python ARGUMENTS` at the root of the repository.

    With another environment it is a new process, else a fork.
    """

    def run(*arguments, **environment):
        command = [sys.executable, *map(str, arguments)]
        if not environment:
            return forks.run(command)
        return subprocess.run(
            command,
            env={**os.environ, **environment},
            cwd=REPOSITORY,
            timeout=300,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def bare(tmp_path):
    """Environment in which processes, and those they start, find no package of ABSENT."""
    folder = tmp_path / 'bare'
    folder.mkdir()
    (folder / 'sitecustomize.py').write_text(REFUSE.format(absent=set(ABSENT.split())))
    return {'PYTHONPATH': os.pathsep.join([str(folder), os.environ['PYTHONPATH']])}
