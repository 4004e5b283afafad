"""Several real processes on one machine train one model; one is killed, one gets SIGTERM."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.conftest import devices_flag
from tests.training import micro
from vos_jax import processes
from vos_jax.checkpoint_files import list_steps
from vos_jax.errors import InputError


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return micro.write_data(tmp_path_factory.mktemp('made_up'))


@pytest.fixture(scope='module')
def alone(data, tmp_path_factory):
    """The workdir of a run of one process with one device."""
    workdir = tmp_path_factory.mktemp('alone') / 'run'
    micro.run(data, workdir)
    return workdir


def assert_same_run(workdir, expected):
    found, needed = micro.losses(workdir), micro.losses(expected)
    assert list(found) == list(needed) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(found.values()), list(needed.values()), rtol=1e-5)
    found, needed = micro.weights(workdir), micro.weights(expected)
    assert found.keys() == needed.keys()
    for name, value in needed.items():
        # float32: the sums over the clips have another order.
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.long
def test_two_processes_end_with_the_weights_of_one(data, alone, tmp_path):
    output = micro.run(data, tmp_path / 'run', {'mesh.data': 2}, processes=2)
    assert '2 devices (data 2) in 2 processes' in output
    assert_same_run(tmp_path / 'run', alone)


@pytest.mark.long
def test_four_processes_with_split_weights_end_with_the_weights_of_one(data, alone, tmp_path):
    micro.run(data, tmp_path / 'run', {'mesh.data': 2, 'mesh.fsdp': 2}, processes=4)
    assert_same_run(tmp_path / 'run', alone)


def wait_for_checkpoint(workdir, running, after=0, timeout_s=240):
    end_s = time.monotonic() + timeout_s
    while max(list_steps(workdir), default=0) <= after:
        assert time.monotonic() < end_s
        assert all(process.poll() is None for process in running), micro.end(running)[2]
        time.sleep(0.2)


ENDLESS = {'mesh.data': 2, 'training.steps': 1_000_000, 'training.log_every': 1000}


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_a_restart_runs_until_sigterm(data, place):
    workdir = place.url
    running = micro.start(data, workdir, ENDLESS, processes=2)
    wait_for_checkpoint(workdir, running)
    running[1].send_signal(signal.SIGKILL)
    killed_s = time.monotonic()
    codes, _, errors = micro.end(running, timeout_s=60)
    assert time.monotonic() - killed_s < 60
    assert codes[0] in (-signal.SIGABRT, processes.LOST_PROCESS)
    assert codes[1] == -signal.SIGKILL
    assert 'error: process 0 of 2' in errors[0]
    assert 'the same command in all processes resumes' in errors[0].lower()

    done = max(list_steps(workdir))
    running = micro.start(data, workdir, ENDLESS, processes=2)
    wait_for_checkpoint(workdir, running, after=done)
    running[1].send_signal(signal.SIGTERM)  # one alone
    sent_s = time.monotonic()
    codes, outputs, errors = micro.end(running, timeout_s=60)
    assert time.monotonic() - sent_s < 30
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert f'resuming from step {done}' in outputs[0]
    stopped = int(outputs[0].rpartition('at step ')[2].partition(';')[0])
    assert stopped in list_steps(workdir)


@pytest.mark.slow
def test_a_signal_to_one_process_ends_the_scoring_of_all(data, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(data, root)
    names = (root / 'ImageSets/2017/val.txt').read_text().split()
    for name in ('one', 'two'):  # long, one for each process
        for kind, suffix in (('JPEGImages', 'jpg'), ('Annotations', 'png')):
            folder = root / kind / '64p'
            (folder / name).mkdir()
            for time_ in range(5000):
                (folder / name / f'{time_:05d}.{suffix}').hardlink_to(
                    folder / names[0] / f'0000{time_ % 6}.{suffix}'
                )
    (root / 'ImageSets/2017/val.txt').write_text('one\ntwo\n')
    source = {'root': str(root), 'split': 'val', 'resolution': '64p', 'name': 'val'}
    changes = {
        **ENDLESS,
        'training.checkpoint_every': 1,
        'training.evaluate_every': 1,
        'evaluation.sources': repr({'val': source}),
    }
    running = micro.start(data, tmp_path / 'run', changes, processes=2)
    wait_for_checkpoint(tmp_path / 'run', running)
    running[1].send_signal(signal.SIGTERM)
    codes, outputs, errors = micro.end(running, timeout_s=60)
    assert codes == [128 + signal.SIGTERM] * 2, errors
    assert 'step 1: a signal came before the held-out videos were scored' in outputs[0]
    assert list_steps(tmp_path / 'run') == [1]  # where it resumes, with the scoring


@pytest.mark.parametrize(
    ('error', 'code', 'words'),
    [
        # What Orbax's barrier, Gloo and JAX raise where another process has died.
        ('TimeoutError', 134, 'process 0 of 2: barrier. Where another process has died'),
        ('ValueError', 134, 'process 0 of 2: barrier. Where another process has died'),
        ('jax.errors.JaxRuntimeError', 134, 'process 0 of 2: barrier. Where another process'),
        ('FloatingPointError', 1, 'process 0 of 2: barrier\n'),
        ('processes.InputError', 2, 'barrier more\n'),
    ],
)
def test_any_failure_of_one_of_several_processes_ends_it_with_a_message(error, code, words):
    # Nothing that runs at the regular end may: it would wait for the others.
    program = (
        'import atexit, jax\nfrom vos_jax import processes\n'
        'jax.process_count, processes.GRACE_S = lambda: 2, 0\n'
        "atexit.register(print, 'waits for the others')\n"
        f"with processes.ending_together(): raise {error}('barrier\\nmore')"
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, '')
    assert f'error: {words}' in done.stderr
    assert ('Traceback' in done.stderr) == (code != 2)


GATHER = """
import sys
from pathlib import Path
import jax
from vos_jax import processes, recipe
from vos_jax.training import health
processes.initialize(f'127.0.0.1:{sys.argv[1]}', 2, int(sys.argv[2]))
found = processes.gathered({'process': int(sys.argv[2]), 'more': 'x' * 999 * int(sys.argv[2])})
print([(one['process'], len(one['more'])) for one in found])
changes = ['profile=1', 'training.steps=99', f'profiler_port={sys.argv[3]}']
config = recipe.load('giel_small:tiny', changes)
with health.Watch(config, Path(sys.argv[4]), start=0) as watch:
    with watch.watched(watch.WARM_UP):
        jax.jit(lambda x: x + 1)(1.0)
"""


@pytest.mark.slow
def test_processes_gather_what_they_have_and_profile_apart(tmp_path):
    port, profiler_port = micro.free_port(), micro.free_port()
    arguments = str(profiler_port), str(tmp_path)
    running = [
        subprocess.Popen(
            [sys.executable, '-c', GATHER, str(port), str(index), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    codes, outputs, errors = micro.end(running, timeout_s=120)
    assert codes == [0, 0], errors
    for index, output in enumerate(outputs):
        assert '[(0, 0), (1, 999)]' in output.splitlines()
        assert f'profiler of process {index}: port {profiler_port + index}\n' in output
    (first,) = (tmp_path / 'profile/plugins').rglob('*.xplane.pb')
    (second,) = (tmp_path / 'profile/process_1').rglob('*.xplane.pb')
    assert first.name == second.name


@pytest.mark.slow
def test_wrong_input_of_one_process_ends_all(data, tmp_path):
    roots = [data, tmp_path / 'none']
    running = micro.start(roots, tmp_path / 'run', {'mesh.data': 2}, processes=2)
    codes, _, errors = micro.end(running, timeout_s=90)
    assert codes[0] in (-signal.SIGABRT, processes.LOST_PROCESS)
    assert codes[1] == 2
    assert errors[1].splitlines()[-1].startswith(f'error: {roots[1]}: no such folder')
    assert 'Traceback' not in errors[1]


@pytest.mark.slow
@pytest.mark.parametrize(('split', 'place'), [('train', 'data'), ('val', 'evaluation')])
def test_processes_that_find_other_videos_end_before_the_first_step(data, tmp_path, split, place):
    roots = [data, tmp_path / 'other']
    shutil.copytree(data, roots[1])
    listed = roots[1] / f'ImageSets/2017/{split}.txt'
    names = [
        *listed.read_text().split(),
        (data / 'ImageSets/2017/train.txt').read_text().split()[0],
    ]
    listed.write_text('\n'.join(names[1:] if split == 'train' else names))
    source = {'split': 'val', 'resolution': '64p'}
    changes = [
        {'mesh.data': 2, 'evaluation.sources': repr({'synthetic': {**source, 'root': str(root)}})}
        for root in roots
    ]
    running = micro.start(roots, tmp_path / 'run', changes, processes=2)
    codes, _, errors = micro.end(running, timeout_s=90)
    assert codes == [2, 2], errors
    for error in errors:
        (line,) = [line for line in error.splitlines() if line.startswith('error: ')]
        assert f'process 1 has in {place}.sources.synthetic ' in line


@pytest.mark.slow
def test_processes_with_different_settings_end_at_once(data, tmp_path):
    changes = [{'mesh.data': 2}, {'mesh.data': 2, 'seed': 7}]
    running = micro.start(data, tmp_path / 'run', changes, processes=2)
    codes, _, errors = micro.end(running, timeout_s=90)
    assert codes == [2, 2]
    for error in errors:
        (line,) = [line for line in error.splitlines() if line.startswith('error: ')]
        assert line == 'error: process 1 has seed 7, process 0 0; give all the same'


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'num_processes': 2}, '--coordinator_address is missing'),
        ({'coordinator_address': 'a:1', 'num_processes': 2}, '--process_id is missing'),
        ({'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': 2}, '--process_id is 2'),
    ],
)
def test_flags_that_do_not_fit_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        processes.initialize(**values)


def test_a_process_alone_needs_no_flags(monkeypatch):
    for name in ('SLURM_STEP_NODELIST', 'TPU_WORKER_HOSTNAMES', 'JAX_NUM_PROCESSES'):
        monkeypatch.delenv(name, raising=False)
    processes.initialize()
    processes.initialize('127.0.0.1:1', 1, 0)


def test_the_variables_of_jax_are_read(monkeypatch):
    monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
    monkeypatch.setenv('JAX_PROCESS_ID', '5')
    monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:1')
    with pytest.raises(InputError, match='--process_id is 5'):
        processes.initialize()


@pytest.mark.parametrize(
    'address', ['localhost', 'host:', 'host:port', ':1', '127.0.0.1:99999', 'http://a:3', 'a:0']
)
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(InputError, match=r'--coordinator_address is .*; needed: HOST:PORT'):
        processes.initialize(address, 2, 0)


@pytest.mark.parametrize('name', ['JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'])
def test_half_of_the_variables_of_jax_is_refused(monkeypatch, name):
    for other in ('JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, '2')
    with pytest.raises(InputError, match='is missing beside the other one of JAX'):
        processes.initialize()


def test_processes_of_an_unknown_mpi_are_refused(monkeypatch):
    monkeypatch.setenv('PMI_SIZE', '2')
    with pytest.raises(InputError, match=r'2 processes of MPI .* give --coordinator_address'):
        processes.initialize()


def test_the_shell_of_an_allocation_is_alone(monkeypatch):
    for name in ('STEP_NODELIST', 'PROCID', 'LOCALID'):
        monkeypatch.setenv(f'SLURM_{name}', '0')
    monkeypatch.setenv('SLURM_NTASKS', '8')
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '1')
    processes.initialize()


REFUSED_TOGETHER = """
import sys, time
from pathlib import Path
from vos_jax import processes
address, index, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
processes.initialize(address, 2, index)
with processes.ending_together():
    processes.check_shared(Path(what))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ('of_process', 'devices', 'words'),
    [
        (('a', 'b'), (1, 1), 'process 1 does not see what process 0 writes there'),
        (('a', 'a'), (1, 3), 'process 1 has devices: 3, process 0: 1'),
        (('a', 'a'), (1, 1), ''),
    ],
)
def test_what_processes_do_not_share_is_refused_in_all(tmp_path, of_process, devices, words):
    address = f'127.0.0.1:{micro.free_port()}'
    for name in of_process:
        (tmp_path / name).mkdir(exist_ok=True)
    running = [
        subprocess.Popen(
            [sys.executable, '-c', REFUSED_TOGETHER, address, str(index), tmp_path / name],
            env={**os.environ, 'XLA_FLAGS': devices_flag(count)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, (name, count) in enumerate(zip(of_process, devices))
    ]
    codes, _, errors = micro.end(running, timeout_s=120)
    assert codes == ([2, 2] if words else [0, 0]), errors
    assert all(words in error for error in errors)
    assert not list((tmp_path / 'a').glob('*'))


@pytest.mark.slow
def test_a_port_that_is_taken_and_others_that_do_not_come_are_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        command = [sys.executable, '-c', REFUSED_TOGETHER, address, '0', tmp_path]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1  # of this program; a command says it in one line
    assert f'{address}: its port cannot be used here (' in done.stderr
    command[3] = f'127.0.0.1:{micro.free_port()}'
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    lines = iter(running.stderr.readline, '')
    assert next(line for line in lines if 'waiting for the other processes (coord' in line)
    running.kill()
    running.communicate()


@pytest.mark.slow
def test_two_runs_in_one_folder_are_refused(data, tmp_path):
    (first,) = micro.start(data, tmp_path / 'run', {'training.steps': 10_000})
    while not list(tmp_path.glob('run/checkpoints/latest/[0-9]*')):
        assert first.poll() is None
        time.sleep(0.1)
    (second,) = micro.start(data, tmp_path / 'run', {'training.steps': 10_000})
    codes, _, errors = micro.end([second], timeout_s=90)
    first.kill()
    micro.end([first], timeout_s=30)
    assert codes == [2]
    assert 'run: in use by another process; wait for the end of the run there' in errors[0]


@pytest.mark.parametrize('text', ['two', '-1', '1.5', ''])
def test_a_variable_that_is_no_number_is_named(monkeypatch, text):
    monkeypatch.setenv('JAX_NUM_PROCESSES', text)
    monkeypatch.setenv('JAX_PROCESS_ID', '0')
    with pytest.raises(InputError, match='the variable JAX_NUM_PROCESSES is'):
        processes.initialize()


@pytest.fixture
def joined(monkeypatch):
    """Returns a function: environment -> the arguments that JAX is started with, by keyword."""

    def join(**environment):
        for name in list(os.environ):
            if name.startswith(('SLURM_', 'CUDA_', 'JAX_NUM', 'JAX_PROCESS', 'TPU_', 'OMPI_')):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = {}
        monkeypatch.setattr(jax.distributed, 'initialize', lambda **values: given.update(values))
        processes.initialize()
        return given

    return join


def slurm(local, tasks, visible, **more):
    """Environment of a task of srun on the second of two nodes."""
    return {
        'SLURM_JOB_ID': '7',
        'SLURM_STEP_NODELIST': 'node[1-2]',
        'SLURM_NTASKS': str(2 * tasks),
        'SLURM_PROCID': str(tasks + local),
        'SLURM_LOCALID': str(local),
        'SLURM_NODEID': '1',
        'SLURM_STEP_TASKS_PER_NODE': f'{tasks}(x2)',
        'CUDA_VISIBLE_DEVICES': visible,
        **more,
    }


ALL = '0,1,2,3,4,5,6,7'


@pytest.mark.parametrize(
    ('environment', 'devices'),
    [
        # srun --ntasks-per-node=8 --gpus-per-node=8: each task sees the GPUs of all.
        (slurm(5, 8, ALL), [5]),
        # srun --ntasks-per-node=8 --gpus-per-task=1: each task sees its own, as number 0.
        (slurm(5, 8, '0', SLURM_GPUS_PER_TASK='1'), [0]),
        (slurm(5, 8, '5', SLURM_GPUS_PER_TASK='1'), [0]),
        # srun --ntasks-per-node=1 --gpus-per-node=8: one process has all.
        (slurm(0, 1, ALL), [0, 1, 2, 3, 4, 5, 6, 7]),
        # Two tasks that share eight, and two that have two each.
        (slurm(1, 2, ALL), [4, 5, 6, 7]),
        (slurm(1, 2, '2,3', SLURM_GPUS_PER_TASK='2'), [0, 1]),
        (slurm(1, 2, ALL) | {'SLURM_STEP_TASKS_PER_NODE': '1,2'}, [4, 5, 6, 7]),
    ],
)
def test_a_task_of_slurm_takes_the_gpus_that_are_its_own(joined, environment, devices):
    assert joined(**environment)['local_device_ids'] == devices


def test_a_task_of_slurm_without_gpus_leaves_the_devices_to_jax(joined):
    environment = slurm(1, 2, '')
    assert 'local_device_ids' not in joined(**environment)
    assert joined(**environment)['heartbeat_timeout_seconds'] == processes.HEARTBEAT_TIMEOUT_S


def test_a_shell_inside_of_an_allocation_of_slurm_is_alone(joined):
    assert joined(SLURM_JOB_ID='7', SLURM_NTASKS='16') == {}
