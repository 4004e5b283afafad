"""The one switch of all repairs: `VOS_CPU_REPAIRS`, or `using` around what is traced.

`VOS_CPU_REPAIRS=0` compiles the plain operations on CPUs too, `VOS_CPU_REPAIRS=tiles,winograd` has
these two repairs alone.
"""

import os

import jax
from jax import lax

from vos_jax.errors import InputError

VARIABLE = 'VOS_CPU_REPAIRS'
REPAIRS = ('depthwise', 'gradients', 'tiles', 'winograd')
# Part of the key of jit's caches: what was traced under another setting is traced again.
_chosen = jax.make_user_context(None)


def using(repairs):
    """Context manager: what is traced in it has these repairs, names of REPAIRS; () for none."""
    return _chosen(tuple(repairs))


def has(repair):
    """Whether programs for CPUs that are traced now have a repair."""
    chosen = _chosen.value
    if chosen is None:
        # Elsewhere no second branch is traced, and no rule for gradients stands in the way.
        chosen = _of_environment() if jax.default_backend() == 'cpu' else ()
    return repair in chosen


def on_cpu(repair, repaired, plain, *args):
    """`repaired(*args)` in programs for CPUs that have the repair, `plain(*args)` in all others.

    Args:
      repair: name of REPAIRS.
      repaired, plain: functions of the same arrays with results of the same shapes.
    """
    if not has(repair):
        return plain(*args)
    return lax.platform_dependent(*args, cpu=repaired, default=plain)


def _of_environment():
    text = os.environ.get(VARIABLE, '1').strip()
    if text in ('0', '1', ''):
        return () if text == '0' else REPAIRS
    names = tuple(name.strip() for name in text.split(','))
    for name in names:
        if name not in REPAIRS:
            raise InputError(
                f"{VARIABLE} has '{name}'; needed: 0, 1 or some of {', '.join(REPAIRS)}"
            )
    return names
