"""Several processes of one command: how they find each other, and what is said when one dies.

Each process sees its own devices and reads its own clips; the arrays are global. Process 0 alone
writes logs; checkpoints are written by all, each its parts, so the workdir is one that all see.
"""

import atexit
import collections
import contextlib
import importlib.util
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vos_jax.config import plain
from vos_jax.errors import InputError, first_line, one_line
from vos_jax.storage import disk
from vos_jax.storage.paths import is_bucket

# A process that has sent nothing for so long is taken for dead, and the others end. JAX has 100.
HEARTBEAT_TIMEOUT_S = 30
SHUTDOWN_TIMEOUT_S = 60
SILENT_S = 10  # so long a process waits for the others without a word
LOST_PROCESS = 128 + 6  # exit code; JAX itself ends by SIGABRT
# The others abort when process 0 ends: so long they have to tell what went wrong in themselves.
GRACE_S = 3
# Another process's death, for who waits: in JAX, in a checkpoint's barrier, in CPU collectives.
LOSS_SIGNS = (jax.errors.JaxRuntimeError, TimeoutError, ValueError)
# What may differ, as the place of the data on each host does.
_OF_ONE_HOST = re.compile(
    r'(data|evaluation)\.sources.*root$|data\.stage$'
    '|--(data|weights|videos|unseen|workers|compilation_cache|coordinator_address|process_id)$'
)
NAMES = ('coordinator_address', 'num_processes', 'process_id')
_FLAGS = '--coordinator_address, --num_processes and --process_id'
_ADDRESS = re.compile(r'(\[[\w:.%]+\]|[^\s:/\[\]]+):(\d{1,5})')  # HOST:PORT or [IPv6]:PORT

# Tells, after a process was killed or has aborted, what nobody in it could say any more: while it
# waits for the others inside of a collective, no Python code runs. One byte means a regular end.
_WITNESS_PROGRAM = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if not os.read(0, 1):
    os.write(2, sys.argv[1].encode())
"""
_witness = None


def initialize(
    coordinator_address=None,
    num_processes=None,
    process_id=None,
    *,
    shutdown_timeout_s=SHUTDOWN_TIMEOUT_S,
):
    """Joins the processes of a command, where there are several; to be called before JAX computes.

    Args:
      coordinator_address: HOST:PORT of process 0; with the other two, or all None. Then the
        environment says: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; SLURM;
        Open MPI; Cloud TPU and TPUs of GKE. Where there is none of these, this is the only process.
      num_processes: of the run.
      process_id: of this process, from 0.
      shutdown_timeout_s: so long a process that has come to its end waits for the others.

    Raises:
      InputError: for incomplete arguments, or processes with other numbers of devices. Where the
        others do not come within five minutes the process ends, with a line and exit code 2.
    """
    values: dict[str, Any] | None = dict(
        zip(NAMES, (coordinator_address, num_processes, process_id))
    )
    if all(value is None for value in values.values()):
        values = _from_environment()
        if values is None:
            return
    _check(values)
    count = values.get('num_processes')
    if count == 1:
        return
    about = ', '.join(f'{name}={value}' for name, value in values.items()) or 'this environment'
    waiting = threading.Timer(
        SILENT_S, print, [f'waiting for the other processes ({about})'], {'file': sys.stderr}
    )
    waiting.start()
    try:
        jax.distributed.initialize(
            **values,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_S,
            shutdown_timeout_seconds=shutdown_timeout_s,
        )
    except (RuntimeError, ValueError) as error:
        print(
            f'error: the processes did not find each other ({about}): {one_line(error)}; start all '
            f'of them, with {_FLAGS} where the environment does not say',
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)  # leaving in the regular way, JAX may crash on what it could not start
    finally:
        waiting.cancel()
    if jax.process_count() > 1:
        with ending_together():
            _check_devices()
        _start_witness()


def _check_devices():
    """Refuses processes that do not have as many devices as the others."""
    counts = collections.Counter(device.process_index for device in jax.devices())
    for process, count in sorted(counts.items()):
        if count != counts[0]:
            raise InputError(
                f'process {process} has devices: {count}, process 0: {counts[0]}; start processes '
                'that see as many devices, and look for one that has failed'
            )


@contextlib.contextmanager
def ending_together():
    """Context of the work of several processes: a failure of one ends it at once with a message.

    Where a connection breaks, the collective fails at once, on other networks it waits until JAX
    gives up (exit code 134 too). Wrong input keeps its line and exit code 2, all else exit code 1.
    Leaving Python in the regular way would wait for the others and abort in vain.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, InputError):
            code, text = 2, one_line(error)
        else:
            traceback.print_exc()
            where = f'process {jax.process_index()} of {jax.process_count()}'
            code, text = 1, f'{where}: {first_line(error, most=300)}'
            if isinstance(error, LOSS_SIGNS):
                code = LOST_PROCESS
                text += (
                    '. Where another process has died, the same command in all processes resumes '
                    'from the last checkpoint'
                )
        print(f'error: {text}', file=sys.stderr, flush=True)
        _dismiss_witness()
        if jax.process_index() == 0:
            time.sleep(GRACE_S)
        os._exit(code)


def gathered(value):
    """What each process has, as a list in their order; anything that can be pickled."""
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(data)])).ravel()
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes)]


def check_same(given):
    """Refuses processes that were given something else than process 0.

    Args:
      given: dict of plain values by name, also nested; where data lie may differ.

    Raises:
      InputError: in all of them, naming the first value that differs.
    """
    first, *others = gathered(given)
    for number, other in enumerate(others, 1):
        for name, here, there in plain.differences(first, other):
            if not _OF_ONE_HOST.match(name):
                raise InputError(
                    f'process {number} has {name} {there!r}, process 0 {here!r}; give all the same'
                )


def check_shared(folder):
    """Refuses a folder that not all processes see: they would wait for each other's files.

    Args:
      folder: it is made, where it is not there; in a bucket all see it.

    Raises:
      InputError: in all of them.
    """
    if jax.process_count() == 1 or is_bucket(folder):
        return
    path = Path(folder) / gathered(f'.{uuid.uuid4().hex}.tmp')[0]
    if is_writer():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    gathered(None)
    found = gathered(path.exists())
    if is_writer():
        path.unlink()
    if not all(found):
        disk.remove_empty_folders(path.parent)
        raise InputError(
            f'{folder}: process {found.index(False)} does not see what process 0 writes there; '
            'name a folder that all share, or gs://'
        )


def is_writer():
    """Whether this process writes the logs of the run."""
    return jax.process_index() == 0


def say(text, file=None):
    """Prints a line, in one process of the run; to `file`, or the standard output."""
    if is_writer():
        print(text, file=file, flush=True)


def _check(values):
    if not values.keys() & set(NAMES):
        return
    missing = [name for name in NAMES if values.get(name) is None]
    if missing:
        raise InputError(f'--{missing[0]} is missing; all of {", ".join(NAMES)}, or none')
    address = _ADDRESS.fullmatch(values['coordinator_address'])
    if not address or not 0 < int(address[2]) < 2**16:
        raise InputError(
            f'--coordinator_address is {values["coordinator_address"]}; needed: HOST:PORT of '
            'process 0, as 10.0.0.1:1234'
        )
    if values['process_id'] == 0:
        try:  # JAX may crash where it cannot listen
            socket.create_server(('', int(address[2]))).close()
        except OSError as error:
            raise InputError(
                f'--coordinator_address is {address[0]}: its port cannot be used here '
                f'({error.strerror}); name another, in all processes'
            ) from None
    if not 0 <= values['process_id'] < values['num_processes']:
        raise InputError(
            f'--process_id is {values["process_id"]}; needed: 0 to num_processes - 1 = '
            f'{values["num_processes"] - 1}'
        )


def _count(variable):
    """A number in the environment; 1 where it is not there."""
    text = os.environ.get(variable, '1')
    if not text.isdecimal():
        raise InputError(f"the variable {variable} is '{text}'; needed: a whole number")
    return int(text)


def _from_environment():
    """Arguments of `jax.distributed.initialize`; {} where JAX finds them itself; None: alone."""
    environment = os.environ
    own = {'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'}
    if missing := own - environment.keys() if own & environment.keys() else ():
        raise InputError(f'the variable {missing.pop()} is missing beside the other one of JAX')
    if own <= environment.keys():
        return {
            'coordinator_address': environment.get('JAX_COORDINATOR_ADDRESS'),
            'num_processes': _count('JAX_NUM_PROCESSES'),
            'process_id': _count('JAX_PROCESS_ID'),
        }
    in_slurm_step = {'SLURM_STEP_NODELIST', 'SLURM_PROCID', 'SLURM_LOCALID'} <= environment.keys()
    is_several = (
        # In the shell of an allocation SLURM_NTASKS is that of the job.
        (
            in_slurm_step
            and _count('SLURM_NTASKS') > 1
            and environment.get('SLURM_STEP_NUM_TASKS') != '1'
        )
        or _count('OMPI_COMM_WORLD_SIZE') > 1
        or 'MEGASCALE_COORDINATOR_ADDRESS' in environment
        or any(',' in environment.get(f'TPU_{name}', '') for name in _TPU_HOSTS)
    )
    if not is_several and _count('PMI_SIZE') > 1:
        raise InputError(
            f'{_count("PMI_SIZE")} processes of MPI that JAX does not know; give {_FLAGS}'
        )
    if not is_several:
        return {} if _is_tpu_vm() else None
    devices = _slurm_devices(environment) if in_slurm_step else None
    return {} if devices is None else {'local_device_ids': devices}


def _slurm_devices(environment):
    """Which of the GPUs that this task of SLURM sees are its own; None where JAX is to choose.

    JAX takes the one of the number SLURM_LOCALID, which is right only where a task sees the GPUs of
    all tasks of its node and each has one. The numbers count within CUDA_VISIBLE_DEVICES.
    """
    visible = environment.get('CUDA_VISIBLE_DEVICES', '').split(',')
    num_visible = len([name for name in visible if name])
    if not num_visible:
        return None
    num_tasks = _slurm_tasks(environment)
    share, left = divmod(num_visible, num_tasks)
    of_task = environment.get('SLURM_GPUS_PER_TASK', '').rpartition(':')[2]  # as 'a100:4'
    is_bound = of_task == str(num_visible)
    if is_bound or left or not share:  # all that this task sees is its own
        return list(range(num_visible))
    first = int(environment['SLURM_LOCALID']) * share
    return list(range(first, first + share))


def _slurm_tasks(environment):
    """Tasks of this step on this node; SLURM_STEP_TASKS_PER_NODE is as '8(x2),4'."""
    text = environment.get('SLURM_STEP_TASKS_PER_NODE', '')
    counts = []
    for count, times in re.findall(r'(\d+)(?:\(x(\d+)\))?', text):
        counts += [int(count)] * int(times or 1)
    node = int(environment.get('SLURM_NODEID', 0))
    return counts[node] if node < len(counts) else int(environment['SLURM_LOCALID']) + 1


_TPU_HOSTS = ('WORKER_HOSTNAMES', 'PROCESS_ADDRESSES')


def _is_tpu_vm():
    """Whether this is a Cloud TPU machine, whose metadata server knows the other ones."""
    if os.environ.get('JAX_PLATFORMS', 'tpu').split(',')[0] != 'tpu':
        return False
    has_chips = any(Path(path).exists() for path in ('/dev/accel0', '/dev/vfio/0'))
    return has_chips and importlib.util.find_spec('libtpu') is not None


def _start_witness():
    message = (
        f'error: process {jax.process_index()} of {jax.process_count()} has ended before the run '
        'did. Either it was killed itself, or another process has died or lost its network, and '
        f'after {HEARTBEAT_TIMEOUT_S} s without a sign of it this one gave up (JAX names it above, '
        'exit code 134). The same command in all processes resumes from what is finished.\n'
    )
    global _witness
    _witness = subprocess.Popen(
        [sys.executable, '-S', '-c', _WITNESS_PROGRAM, message], stdin=subprocess.PIPE
    )
    atexit.register(_dismiss_witness)


def _dismiss_witness():
    pipe = _witness and _witness.stdin
    if _witness and pipe and not pipe.closed:
        pipe.write(b'.')
        pipe.close()
        _witness.wait()
