"""From a .pth file to PNGs: CFBI's masks against those of the released evaluator, label by label.

The checkpoint goes through data_prep.import_weights and evaluate.py, each in a process of its own.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from data_prep import torch_writer
from vos_jax.data import masks

pytestmark = pytest.mark.slow

RUNS = {
    'davis': ('davis2017', 'DAVIS', []),
    'davis_atrous2': ('davis2017', 'DAVIS', ['--atrous=2']),
    'davis_ms_flip': ('davis2017', 'DAVIS', ['--scales=1.0,1.15,1.3,1.5', '--flip']),
    'ytb': ('youtube_vos2018', 'YTB', []),
}
# Compiling takes most of the time. Level 1 computes the same to rounding.
FLAGS = '--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true'
MARGIN = 5  # level of the records from which on two probabilities differ by 1e-3 or more


def command(*arguments):
    environment = {**os.environ, 'XLA_FLAGS': FLAGS}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def imported(cfbi_state_dict, tmp_path_factory):
    """Weights file made of a checkpoint as released: a state_dict with its counters."""
    folder = tmp_path_factory.mktemp('cfbi')
    torch_writer.write(folder / 'cfbi.pth', cfbi_state_dict)
    files = (folder / 'cfbi.pth', folder / 'cfbi.npz')
    command('-m', 'data_prep.import_weights', '--format=cfbi', *files)
    return folder / 'cfbi.npz'


@pytest.mark.parametrize('run', RUNS)
def test_masks_equal_those_of_the_released_evaluator(shared, imported, tmp_path, run):
    protocol, data, options = RUNS[run]
    root = shared('parity/cfbi_e2e')
    flags = [f'--weights={imported}', f'--protocol={protocol}', f'--data={root / data}', *options]
    command('evaluate.py', *flags, f'--out={tmp_path}', '--noreport')
    levels = np.load(root / 'expected' / run / 'margin_levels.npz')
    total = wrong = 0
    for path in sorted((root / 'expected' / run).glob('*/*.png')):
        key = f'{path.parent.name}/{path.stem}'
        expected = masks.read_labels(path)
        differ = masks.read_labels(tmp_path / 'masks' / f'{key}.png') != expected
        total, wrong = total + differ.size, wrong + differ.sum()
        if key in levels:
            assert levels[key][differ].max(initial=0) < MARGIN, key
        else:
            assert not differ.any(), key  # given
    assert wrong <= 1e-3 * total
