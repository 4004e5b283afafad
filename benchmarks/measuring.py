"""Time and memory of a measured part, each in a process of its own, and tables of them."""

import contextlib
import ctypes
import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import time
from concurrent import futures
from pathlib import Path

import jax
import numpy as np

from vos_jax import compilation
from vos_jax.errors import InputError


def in_own_process(function, *args, **kwargs):
    """Calls a module's function in a fresh process: nothing that ran before adds to its memory."""
    context = multiprocessing.get_context('spawn')
    with futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def without_cached_compilations():
    """Makes the compile times that follow real ones."""
    jax.config.update('jax_enable_compilation_cache', False)


def timed(function, *args):
    """Calls a function; gives (result, wall s, CPU s) once its arrays are computed.

    On a machine that does other work too, the process's CPU time is the figure to compare.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function(*args))
    return result, time.perf_counter() - wall, time.process_time() - cpu


def summary_ms(samples):
    """Median and smallest of (wall s, CPU s) samples as a row: ms, best_ms, cpu_ms."""
    wall, cpu = (1000 * np.array(values) for values in zip(*samples))
    return {'ms': np.median(wall), 'best_ms': wall.min(), 'cpu_ms': np.median(cpu)}


def take_turns(functions, count):
    """Times functions that take turns, so that what else the machine does hits all alike.

    Args:
      functions: without arguments, warmed up.
      count: calls of each; who goes first changes.

    Returns:
      List of rows as of `summary_ms`.
    """
    samples = [[] for _ in functions]
    for turn in range(count):
        for index in range(len(functions)):
            chosen = (index + turn) % len(functions)
            samples[chosen].append(timed(functions[chosen])[1:])
    return [summary_ms(times) for times in samples]


def check_pytorch():
    """Raises InputError where PyTorch, which is optional, is absent."""
    if importlib.util.find_spec('torch') is None:
        raise InputError("PyTorch is not installed; pip install 'vos_jax[torch]'")


def num_cores():
    """Cores that this process may use; JAX takes as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def forget_peak_memory():
    """Starts a new peak of the resident memory, where the system allows it (Linux)."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)  # gives back what the compiler freed: half of the memory
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def peak_memory(of_pytorch=False):
    """Largest memory in use, as a row: `peak_mb`, and whose memory it is, `memory`.

    That of the accelerator since the process began; on a CPU the resident memory since
    `forget_peak_memory`.

    Args:
      of_pytorch: whether PyTorch's memory on the accelerator is meant, not JAX's.
    """
    if of_pytorch:
        import torch

        if torch.cuda.is_available():
            return {'peak_mb': torch.cuda.max_memory_allocated() / 2**20, 'memory': 'device'}
        return {'peak_mb': _peak_resident_kb() / 2**10, 'memory': 'resident'}
    if device := compilation.peak_memory()[1]:
        return {'peak_mb': device / 2**20, 'memory': 'device'}
    return {'peak_mb': _peak_resident_kb() / 2**10, 'memory': 'resident'}


def _peak_resident_kb():
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine():
    """Where and with what figures were taken; asks for the devices, so call it in a child."""
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    return {
        'device': jax.devices()[0].device_kind,
        'backend': jax.default_backend(),
        'cores': num_cores(),
        'load_average': load,
        'jax': jax.__version__,
        'python': platform.python_version(),
    }


def describe(figures):
    """One line about a machine."""
    text = f'{figures["device"]} ({figures["backend"]}), {figures["cores"]} cores, '
    load = figures['load_average']
    text += f'jax {figures["jax"]}, Python {figures["python"]}'
    return text + ('' if load is None else f', load average {load:.1f}')


def report(benchmark, rows, columns, out):
    """Prints the machine and a table of rows, and writes them where a file is named."""
    print(describe(rows[0]['machine']))
    print_table(rows, columns)
    write_json(out, {'benchmark': benchmark, 'rows': rows})


def print_table(rows, columns):
    """Prints some columns of rows.

    Args:
      rows: list of dicts; a missing value prints as '-'.
      columns: their names in one text, between spaces.
    """
    columns = columns.split()
    cells = [[name.replace('_', ' ') for name in columns]]
    cells += [[_text(name, row.get(name)) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print('  '.join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip())


def _text(name, value):
    if not isinstance(value, float):
        return '-' if value is None else str(value)
    digits = 0 if name.endswith('mb') else 1 if name.endswith(('ms', 'percent')) else 3
    return f'{value:.{digits}f}'


def write_json(path, figures):
    """Writes figures where a file is named."""
    if path:
        rounded = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 4))
        Path(path).write_text(json.dumps(rounded, indent=1) + '\n')
        print(f'figures in {path}')
