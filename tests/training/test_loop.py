"""train.py as a user runs it: real processes on made-up video, killed and resumed."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.training import micro
from vos_jax.data import scenes
from vos_jax.training.metric_writer import read_metrics

STEPS = 20


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('made_up')
    scenes.write_dataset(root, num_train=3, num_val=1, frames=6, size=(64, 96), seed=0)
    return root


def command(data, workdir, *overrides):
    settings = {
        'data.sources.synthetic.root': data,
        'evaluation.sources.synthetic.root': data,
        'data.crop': '(32,48)',
        'data.batch_size': 2,
        'training.steps': STEPS,
        'training.log_every': 1,
        'training.checkpoint_every': 5,
        'training.evaluate_every': STEPS,
        'training.sequential_from': 10,
        'training.recompilation': 'error',
        'training.unrolled': False,  # compiles sooner, and the clips are small
        'model.encoder.widths': '(8,8,8)',
        'model.encoder.stem_width': 8,
        'model.decoder_channels': 8,
        'optimizer.warmup': 2,
    }
    flags = [f'--config.{name}={value}' for name, value in settings.items()]
    config = REPOSITORY / 'configs' / 'giel_small.py'
    program = [sys.executable, REPOSITORY / 'train.py', f'--config={config}:tiny']
    return [*program, f'--workdir={workdir}', *flags, *overrides]


def run(*arguments, timeout_s=600):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
    """The workdir and output of a run that nothing disturbs."""
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    finished = run(data, workdir)
    assert finished.returncode == 0, finished.stderr
    return workdir, finished.stdout


def test_a_run_logs_every_step_and_evaluates(whole):
    workdir, output = whole
    machine = read_metrics(workdir)[-2]
    for name in ('step_s', 'device_step_s', 'data_wait_s', 'memory_mb', 'mfu'):
        assert machine[f'machine/{name}'] >= 0
    assert machine['weight_norm'] > 0
    assert list(micro.losses(workdir)) == list(range(1, STEPS + 1))
    assert 'ETA' in output
    assert 'held out' in output
    assert list((workdir / 'images').glob('panel_synthetic_*.png'))
    assert json.loads((workdir / 'config.json').read_text())['training']['steps'] == STEPS


def test_a_killed_run_resumes_with_the_same_numbers(data, whole, tmp_path):
    workdir = tmp_path / 'killed'
    process = subprocess.Popen(command(data, workdir), stdout=subprocess.PIPE, text=True)
    for _ in process.stdout:
        if any(path.name.isdigit() for path in workdir.glob('checkpoints/latest/*')):
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not ended by itself
    process.stdout.close()
    finished = run(data, workdir)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r'resuming from step \d*5|resuming from step \d+0', finished.stdout)
    assert micro.losses(workdir) == micro.losses(whole[0])
    assert_same_weights(workdir, whole[0])


def assert_same_weights(first, second):
    first, second = micro.weights(first), micro.weights(second)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_sigterm_writes_a_checkpoint_and_says_so(data, tmp_path):
    workdir = tmp_path / 'terminated'
    process = subprocess.Popen(command(data, workdir), stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith('step'):
            break
    process.send_signal(signal.SIGTERM)
    output = process.stdout.read()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert 'SIGTERM' in output
    steps = [p for p in (workdir / 'checkpoints' / 'latest').iterdir() if p.name.isdigit()]
    assert steps
    process.stdout.close()


# Sends itself the signal when all steps are done and the last checkpoint is to be waited for.
INTERRUPTED_AT_THE_END = """
import runpy, signal, sys
from vos_jax.training.checkpoints import Checkpoints

close = Checkpoints.close


def interrupted_close(self, verify=True):
    signal.raise_signal(signal.SIGTERM)
    close(self, verify)


Checkpoints.close = interrupted_close
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_sigterm_after_the_last_step_leaves_its_checkpoint(data, whole, tmp_path):
    workdir = tmp_path / 'ended'
    python, *program = command(data, workdir)
    finished = subprocess.run(
        [python, '-c', INTERRUPTED_AT_THE_END, *program],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert_same_weights(workdir, whole[0])


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--config.optimizer.learning_rat=1', "'optimizer.learning_rate'"),
        ('--config.data.sources.synthetic.root=/nowhere', '/nowhere'),
        ('--config.model.affinity=cosine', "'dot', 'l2'"),
    ],
)
def test_wrong_input_is_one_line_before_work_starts(data, tmp_path, flag, words):
    start_s = time.monotonic()
    finished = run(data, tmp_path / 'wrong', flag)
    assert finished.returncode == 2
    assert words in finished.stderr.splitlines()[-1]
    assert 'Traceback' not in finished.stderr
    assert not (tmp_path / 'wrong' / 'checkpoints' / 'latest' / '0').exists()
    assert time.monotonic() - start_s < 60


def test_a_workdir_of_another_model_is_refused(data, whole):
    finished = run(data, whole[0], '--config.model.key_channels=16')
    assert finished.returncode == 2
    assert 'model.key_channels' in finished.stderr


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    running = micro.start(data, tmp_path / 'hot', {'optimizer.learning_rate': 1e30})
    (code,), _, (error,) = micro.end(running)
    assert code == 1
    assert 'is not finite' in error
    assert list((tmp_path / 'hot' / 'nonfinite').glob('step_*.json'))
