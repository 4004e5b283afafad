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
from vos_jax import recipe
from vos_jax.checkpoint_files import list_steps
from vos_jax.training import loop
from vos_jax.training.metric_writer import read_metrics

STEPS = 60


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return micro.write_data(tmp_path_factory.mktemp('made_up'))


def command(data, workdir, *overrides):
    """A run of the toy model: what is tested with it is the same for each model."""
    settings = {
        'data.sources.made_up.root': data,
        'training.steps': STEPS,
        'training.log_every': 1,
        'training.checkpoint_every': 20,
        'training.sequential_from': 30,
        'training.recompilation': 'error',
        'training.ema_decay': 0.98,
    }
    flags = [f'--config.{name}={value}' for name, value in settings.items()]
    config = REPOSITORY / 'tests' / 'models' / 'toy_config.py'
    program = [sys.executable, str(REPOSITORY / 'train.py'), f'--config={config}']
    return [*program, f'--workdir={workdir}', *flags, *overrides]


def run(arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
    """The workdir of a run that nothing disturbs."""
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    finished = run(command(data, workdir))
    assert finished.returncode == 0, finished.stderr
    return workdir


def test_a_run_logs_every_step_and_evaluates(data, tmp_path):
    workdir = tmp_path / 'giel'
    held_out = {
        'evaluation.sources': f"{{'synthetic': {{'root': '{data}', 'split': 'val'}}}}",
        'training.evaluate_every': 5,
    }
    (code,), (output,), (error,) = micro.end(micro.start(data, workdir, held_out))
    assert code == 0, error
    machine = read_metrics(workdir)[-2]
    for name in ('step_s', 'device_step_s', 'data_wait_s', 'memory_mb', 'mfu'):
        assert machine[f'machine/{name}'] >= 0
    assert machine['weight_norm'] > 0
    assert list(micro.losses(workdir)) == [1, 2, 3, 4, 5]
    assert 'ETA' in output
    assert 'held out' in output
    assert list((workdir / 'images').glob('panel_synthetic_*.png'))
    assert json.loads((workdir / 'config.json').read_text())['training']['steps'] == 5


@pytest.mark.slow
def test_an_evaluation_that_a_signal_prevented_comes_first_when_the_run_resumes(data, tmp_path):
    changes = {
        'data.sources.made_up.root': data,
        'training.steps': 4,
        'training.evaluate_every': 1,
        'training.keep_best': 4,
    }
    spec = str(REPOSITORY / 'tests/models/toy_config.py')
    config = recipe.load(spec, [f'{name}={value}' for name, value in changes.items()])

    def train(signal_at, *, is_heeded):
        """Trains until the evaluation of that number gets SIGTERM; how many there were."""
        count = 0

        def evaluate(lanes, share, gather, is_given_up):
            nonlocal count
            count += 1
            if count == signal_at:
                signal.raise_signal(signal.SIGTERM)
            is_left = is_heeded and is_given_up()
            return None if is_left else ({'jf': 0.5 + count / 100}, {})

        try:
            loop.train(config, tmp_path / 'run', evaluate)
        except SystemExit as end:
            return count, end.code
        return count, 0

    def evaluated():
        return [m['step'] for m in read_metrics(tmp_path / 'run') if 'evaluation/jf' in m]

    assert train(1, is_heeded=True) == (1, 143)
    assert (list_steps(tmp_path / 'run'), evaluated()) == ([1], [])
    # After the scores of step 1 it stops at 2 before the evaluation.
    assert train(1, is_heeded=False) == (1, 143)
    assert (max(list_steps(tmp_path / 'run')), evaluated()) == (2, [1])
    # Of steps 2, 3 and 4; a signal does not keep a run from its end.
    assert train(2, is_heeded=False) == (3, 0)
    assert (max(list_steps(tmp_path / 'run')), evaluated()) == (4, [1, 2, 3, 4])
    best = (tmp_path / 'run/checkpoints/best').iterdir()
    assert sorted(path.name for path in best) == ['1', '2', '3', '4']
    assert train(1, is_heeded=True) == (0, 0)


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


@pytest.fixture(scope='module')
def resumed(data, tmp_path_factory):
    """The workdir of a run that was killed, resumed, and interrupted at the end; its process."""
    workdir = tmp_path_factory.mktemp('runs') / 'killed'
    # Nobody reads its lines, so it waits long before the last of them.
    process = subprocess.Popen(command(data, workdir), stdout=subprocess.PIPE, pipesize=4096)
    while not list_steps(workdir):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not ended by itself
    process.stdout.close()
    python, *program = command(data, workdir)
    return workdir, run([python, '-c', INTERRUPTED_AT_THE_END, *program])


def test_a_killed_run_resumes_with_the_same_numbers(whole, resumed):
    workdir, finished = resumed
    assert finished.returncode == 0, finished.stderr
    assert re.search(r'resuming from step (20|40)', finished.stdout)
    assert micro.losses(workdir) == micro.losses(whole)
    assert list(micro.losses(whole)) == list(range(1, STEPS + 1))


def test_sigterm_after_the_last_step_leaves_its_checkpoint(whole, resumed):
    workdir, finished = resumed
    assert finished.returncode == 0, finished.stderr
    assert max(list_steps(workdir)) == STEPS
    first, second = micro.weights(workdir), micro.weights(whole)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_sigterm_writes_a_checkpoint_and_says_so(data, tmp_path):
    workdir = tmp_path / 'terminated'
    endless = command(data, workdir, '--config.training.steps=1000000')
    process = subprocess.Popen(endless, stdout=subprocess.PIPE, text=True)
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


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--config.optimizer.learning_rat=1', "'optimizer.learning_rate'"),
        ('--config.data.sources.synthetic.root=/nowhere', '/nowhere'),
        ('--config.model.affinity=cosine', "'dot', 'l2'"),
    ],
)
def test_wrong_input_is_one_line_before_work_starts(data, forks, tmp_path, flag, words):
    start_s = time.monotonic()
    finished = forks.run([*micro.command(data, tmp_path / 'wrong'), flag])
    assert finished.returncode == 2
    assert words in finished.stderr.splitlines()[-1]
    assert 'Traceback' not in finished.stderr
    assert not (tmp_path / 'wrong' / 'checkpoints' / 'latest' / '0').exists()
    assert time.monotonic() - start_s < 60


def test_a_workdir_of_another_model_is_refused(data, forks, whole):
    finished = forks.run(command(data, whole, '--config.model.channels=16'))
    assert finished.returncode == 2
    assert 'model.channels' in finished.stderr


def test_a_loss_that_is_not_finite_stops_the_run(data, forks, tmp_path):
    finished = forks.run(command(data, tmp_path / 'hot', '--config.optimizer.learning_rate=1e30'))
    assert finished.returncode == 1
    assert 'is not finite' in finished.stderr
    assert list((tmp_path / 'hot' / 'nonfinite').glob('step_*.json'))
