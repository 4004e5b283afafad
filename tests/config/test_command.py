"""Wrong settings end train.py in one line, before jax is loaded and before anything is written."""

import resource
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def command(workdir, *overrides):
    """The command line of train.py."""
    flags = [f'--config.{override}' for override in overrides]
    config = f'--config={REPOSITORY}/configs/giel_small.py:tiny'
    return [sys.executable, f'{REPOSITORY}/train.py', config, f'--workdir={workdir}', *flags]


def train(*arguments):
    """The finished process of train.py, and the CPU time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(command(*arguments), capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return finished, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('training.kep=3', "'training.kep' is not a setting; nearest: 'training.keep'"),
        ('training.keep=0', "'training.keep' is 0; needed: a whole number from 2"),
        ('training.checkpoint_every=0', "'training.checkpoint_every' is 0; needed"),
        ('optimizer.clip_norm=-1.0', "'optimizer.clip_norm' is -1.0; needed"),
        ('optimizer.learning_rate=nan', "'optimizer.learning_rate' is nan; needed: a finite"),
        ('data.num_workers=100000000000', "'data.num_workers' is 100000000000; needed"),
        ('data.num_workers=1e20', 'data.num_workers=1e20'),
        ('data.paste.probability=inf', "'data.paste.probability' is inf; needed"),
        ('loss.hardest=((0,5),)', "'loss.hardest' is ((0, 5),); needed"),
        ('model.encoder.norm=batch', "'model.encoder.norm' is 'batch'; one of 'frozen_bn'"),
        ('seed=-1', "'seed' is -1; needed"),
        ('seed=' + '9' * 5000, 'seed'),
        ('optimizer.warmup=400', "'optimizer.warmup' is 400; needed: at most 300"),
    ],
)
def test_a_wrong_setting_ends_the_command_at_once(tmp_path, override, words):
    finished, cpu_s = train(tmp_path / 'run', override)
    assert finished.returncode == 2, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert line.startswith('error: ')
    assert words in line
    assert cpu_s < 2
    assert not (tmp_path / 'run').exists()


def test_data_that_is_not_there_is_found_before_the_config_is_written(tmp_path, forks):
    overrides = 'evaluation.sources={}', f'data.sources.synthetic.root={tmp_path}/no'
    finished = forks.run(command(tmp_path / 'run', *overrides))
    assert finished.returncode == 2, finished.stderr
    assert f'{tmp_path}/no' in finished.stderr
    assert not (tmp_path / 'run/config.json').exists()
