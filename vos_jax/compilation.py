"""JAX's compilation cache, on by default, the count of compilations, and what it compiles for."""

import contextlib
import functools
import os
import resource
import sys
import threading
from pathlib import Path

import jax

from vos_jax.storage.disk import prepare_folder
from vos_jax.storage.paths import absolute, path_of

# compiler_options of jax.jit for a program that runs once on a CPU: optimising it takes longer than
# it gains.
RUN_ONCE = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
# compiler_options of a train step on CPUs: the schedule that keeps least at a time (a sixth of the
# memory of STM's), and a sixth less time to compile for the same speed.
_TRAIN_ON_CPUS = {
    'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED',
    'xla_cpu_opt_preset': 'CPU_OPT_PRESET_FAST_COMPILE',
}
_counts = threading.local()


def keep_compilations(folder=None):
    """Keeps compiled programs in a folder, local or gs://.

    Where none is named, in JAX_COMPILATION_CACHE_DIR, or in the user's cache folder. A user without
    a home, as in some containers, has none: nothing is kept.
    """
    if folder:
        prepare_folder(folder, '--compilation_cache')
        jax.config.update('jax_compilation_cache_dir', str(absolute(path_of(folder))))
    # The attribute is made at run time, so the type checker does not see it.
    elif not getattr(jax.config, 'jax_compilation_cache_dir') and (root := _cache_folder()):  # noqa: B009
        jax.config.update('jax_compilation_cache_dir', str(root / 'vos_jax' / 'compilations'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


@functools.cache
def options_of_train_step(platform):
    """compiler_options of jax.jit for a train step; None where the platform's XLA has none."""
    if platform != 'cpu':
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_TRAIN_ON_CPUS).lower().compile()
    except jax.errors.JaxRuntimeError:  # another version of XLA
        return None
    return _TRAIN_ON_CPUS


def _cache_folder():
    if folder := os.environ.get('XDG_CACHE_HOME'):
        return Path(folder)
    try:
        return Path.home() / '.cache'
    except RuntimeError:  # neither HOME nor an entry for the user's number
        return None


def with_products(precision):
    """Context manager: what is traced in it has float32 products of `config.precision`."""
    if precision == 'auto':
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)


def describe_device():
    """Device and software of this process, as plain values."""
    device = jax.local_devices()[0]
    return {
        'device': f'{device.device_kind} ({device.platform})',
        'software': f'jax {jax.__version__}',
    }


def peak_memory():
    """Most memory in use so far, in bytes: of this process, and of a device (None on CPUs)."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks = [(one.memory_stats() or {}).get('peak_bytes_in_use', 0) for one in jax.local_devices()]
    unit = 1 if sys.platform == 'darwin' else 2**10
    return host * unit, max(peaks) if all(peaks) else None


def count():
    """Programs that this thread has compiled since it, or another, asked for the first time."""
    _listen()
    return getattr(_counts, 'number', 0)


@functools.cache
def _listen():
    def note(event, *_, **__):
        if 'backend_compile' in event:
            _counts.number = getattr(_counts, 'number', 0) + 1

    jax.monitoring.register_event_duration_secs_listener(note)
