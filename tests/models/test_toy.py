"""A new model needs its own files and one line of the registry: all commands take it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.training import micro
from vos_jax.evaluation import results as results_files


@pytest.fixture
def run(forks):
    """Returns a function: runs one of the commands, in a process that has registered the model."""

    def finished(command, *arguments):
        program = f'import tests.models.toy; from vos_jax.commands import {command} as c; c.run()'
        result = forks.run([sys.executable, '-c', program, *arguments])
        assert result.returncode == 0, result.stderr

    return finished


def test_a_registered_model_is_trained_evaluated_and_exported_by_the_commands(run, tmp_path):
    data = micro.write_data(tmp_path / 'data')
    workdir, results = f'--workdir={tmp_path}/run', tmp_path / 'results'
    root = f'--config.data.sources.made_up.root={data}'
    run('train', '--config=tests/models/toy_config.py', workdir, root)
    assert set(micro.losses(tmp_path / 'run')) == {2, 4}
    assert micro.weights(tmp_path / 'run')['params/key/kernel'].shape == (7, 7, 3, 6)

    protocol = ('--protocol=davis2017', f'--data={data}', '--noreport')
    run('evaluate', workdir, *protocol, f'--out={results}', '--model=dtype=float32')
    assert 0 <= results_files.global_scores(results_files.read(results))['J&F-Mean'] <= 1

    weights = f'{tmp_path}/toy.npz'
    run('export', workdir, f'--out={weights}')
    video, masks = tmp_path / 'frames.npy', tmp_path / 'first.npy'
    np.save(video, np.zeros((3, 64, 96, 3), np.uint8))
    np.save(masks, np.pad(np.ones((20, 30), np.uint8), ((10, 34), (10, 56))))
    program = tmp_path / 'program'
    run('export', f'--weights={weights}', f'--out={program}', '--size=96x64', '--platforms=cpu')
    assert json.loads((program / 'about.json').read_text())['size'] == [64, 96]
    loader = [sys.executable, '-m', 'vos_loader', video, masks, tmp_path / 'labels.npy']
    subprocess.run(loader, env={**os.environ, 'PYTHONPATH': str(program)}, check=True)
    assert np.load(tmp_path / 'labels.npy').shape == (3, 64, 96)
