"""JAX's compilation cache, on by default, and what it compiles for."""

import os
from pathlib import Path

import jax

# compiler_options of jax.jit for a program that runs once on a CPU: optimising it takes longer than
# it gains.
RUN_ONCE = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}


def keep_compilations():
    """Keeps compiled programs in the user's cache folder, or in JAX_COMPILATION_CACHE_DIR.

    A user without a home, as in some containers, has no such folder: nothing is kept.
    """
    if not jax.config.jax_compilation_cache_dir and (root := _cache_folder()):
        jax.config.update('jax_compilation_cache_dir', str(root / 'vos_jax' / 'compilations'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def _cache_folder():
    if folder := os.environ.get('XDG_CACHE_HOME'):
        return Path(folder)
    try:
        return Path.home() / '.cache'
    except RuntimeError:  # neither HOME nor an entry for the user's number
        return None


def describe_device():
    """Device and software of this process, as plain values."""
    device = jax.local_devices()[0]
    return {
        'device': f'{device.device_kind} ({device.platform})',
        'software': f'jax {jax.__version__}',
    }
