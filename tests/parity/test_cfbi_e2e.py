"""From a .pth file to PNGs: CFBI's masks against those of the released evaluator, label by label.

The checkpoint goes through vos-import and evaluate.py, each in a process of its own.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from data_prep import torch_writer
from tests.conftest import xla_flags
from tests.parity.cfbi_records import OPTIONS
from vos_jax import weights
from vos_jax.data import masks
from vos_jax.data.frames import read_frame
from vos_jax.inference.segmenter import Segmenter

pytestmark = pytest.mark.slow

# protocol, data set, options
RUNS = {
    'davis': ('davis2017', 'DAVIS', []),
    'davis2016': ('davis2016', 'DAVIS', []),
    'davis_maxedge161': ('davis2017', 'DAVIS', ['--max_edge=161']),
    'davis_atrous2': ('davis2017', 'DAVIS', ['--model=global_atrous=2']),
    'davis_ms_flip': ('davis2017', 'DAVIS', ['--scales=1.0,1.15,1.3,1.5', '--flip']),
    'ytb': ('youtube_vos2018', 'YTB', []),
}
IN_CI = ('davis',)
# A pixel whose probabilities are equal to 1e-4 goes the other way, and with these made-up weights
# the frames after it become others. They are compared one by one below.
DIVERGES = {('davis_atrous2', 'breakdance'), ('ytb', '5f6a7b8c9d')}
MARGIN = 5  # level of the records from which on two probabilities differ by 1e-3 or more


def command(*arguments):
    environment = {**os.environ, 'XLA_FLAGS': xla_flags(OPTIONS)}
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
    command('-m', 'vos_jax.commands.import_weights', '--format=cfbi', *files)
    return folder / 'cfbi.npz'


@pytest.mark.parametrize(
    'run', [run if run in IN_CI else pytest.param(run, marks=pytest.mark.long) for run in RUNS]
)
def test_masks_equal_those_of_the_released_evaluator(shared, imported, tmp_path, run):
    protocol, data, options = RUNS[run]
    root = shared(f'parity/cfbi_e2e/expected/{run}').parents[1]
    flags = [f'--weights={imported}', f'--protocol={protocol}', f'--data={root / data}', *options]
    command('evaluate.py', *flags, f'--out={tmp_path}', '--noreport')
    assert_recorded(run, root / 'expected' / run, tmp_path / 'masks')


def assert_recorded(run, recorded, found):
    """Labels differ at ties alone, in at most a thousandth of a frame's pixels."""
    levels = np.load(recorded / 'margin_levels.npz')
    diverged, compared = set(), 0
    for path in sorted(recorded.glob('*/*.png')):
        sequence, key = path.parent.name, f'{path.parent.name}/{path.stem}'
        if sequence in diverged:
            continue
        expected = masks.read_labels(path)
        differ = masks.read_labels(found / f'{key}.png') != expected
        compared += key in levels
        assert differ.mean() <= 1e-3, key
        if key in levels:
            assert levels[key][differ].max(initial=0) < MARGIN, key
        else:
            assert not differ.any(), key  # given
        if differ.any() and (run, sequence) in DIVERGES:
            diverged.add(sequence)
    assert compared >= 2


# Frames, and changes of the model.
SEQUENCES = {
    'davis_atrous2': ('DAVIS/JPEGImages/480p/breakdance', {'global_atrous': 2}),
    'ytb': ('YTB/valid/JPEGImages/5f6a7b8c9d', {}),
}


@pytest.mark.parametrize('run', ['ytb', pytest.param('davis_atrous2', marks=pytest.mark.long)])
def test_each_frame_equals_the_released_one_after_the_recorded_mask_before(shared, imported, run):
    folder, changes = SEQUENCES[run]
    root = shared(f'parity/cfbi_e2e/expected/{run}').parents[1]
    recorded, annotations = (
        root / 'expected' / run,
        root / folder.replace('JPEGImages', 'Annotations'),
    )
    loaded = weights.load_weights(imported)
    config = {**loaded.config, 'model': {**loaded.config['model'], **changes}}
    segmenter = Segmenter.from_config(config, loaded.variables)
    levels = np.load(recorded / 'margin_levels.npz')
    for index, path in enumerate(sorted((root / folder).glob('*.jpg'))):
        frame, key = read_frame(path), f'{annotations.name}/{path.stem}'
        expected = masks.read_labels(recorded / f'{key}.png')
        if index == 0:
            segmenter.start(frame, expected)
            continue
        before, late = segmenter.state(), annotations / f'{path.stem}.png'
        is_given = run == 'ytb' and late.exists()
        found = segmenter.step(frame)
        if is_given:
            found = segmenter.add_objects(masks.read_labels(late))
        differ = found != expected
        assert levels[key][differ].max(initial=0) < MARGIN, key
        segmenter.restore(before)
        segmenter.observe(frame, expected, given=is_given)
