"""Schedules: functions of the global step, so a resumed run continues where it was."""

import jax.numpy as jnp
import optax


def learning_rate(spec, steps):
    """Learning rate by step: the spec's, decayed over all steps, times a linear warm-up.

    Args:
      spec: OptimizerSpec. The schedule 'constant'; 'cosine', half a cosine from `learning_rate` to
        `end`; 'poly', end + (learning_rate - end) (1 - step/steps)^power; 'steps', times each
        factor of `drops` from its step on. The first `warmup` steps have (step + 1)/warmup of the
        decayed rate: no step is lost to a rate of 0.
      steps: number of steps of the run, warm-up included; later steps keep the last rate.

    Returns:
      Function step -> f32[].

    >>> from vos_jax.config.schema import OptimizerSpec
    >>> rate = learning_rate(OptimizerSpec(learning_rate=0.1, schedule='poly', warmup=4), 100)
    >>> [round(float(rate(step)), 4) for step in (0, 3, 50, 100)]
    [0.025, 0.097, 0.05, 0.0]
    """
    base, end, warmup = spec.learning_rate, spec.end, spec.warmup
    decayed = {
        'constant': lambda: optax.constant_schedule(base),
        'cosine': lambda: optax.cosine_decay_schedule(base, steps, alpha=end / base),
        'poly': lambda: optax.polynomial_schedule(base, end, spec.power, steps),
        'steps': lambda: optax.piecewise_constant_schedule(base, dict(spec.drops)),
    }[spec.schedule]()
    if warmup == 0:
        return decayed
    factor = optax.linear_schedule(1 / warmup, 1 + 1 / warmup, warmup)
    return lambda step: decayed(step) * jnp.minimum(factor(step), 1.0)


def piecewise_linear(points):
    """A value that moves in straight lines between given steps, and stays outside of them.

    Args:
      points: ((step, value), ...), steps rising.

    Returns:
      Function step -> f32[].

    >>> gap = piecewise_linear(((0, 1), (100, 5)))
    >>> [float(gap(step)) for step in (0, 50, 100, 1000)]
    [1.0, 3.0, 5.0, 5.0]
    """
    steps, values = zip(*points, strict=True)
    steps, values = jnp.array(steps, jnp.float32), jnp.array(values, jnp.float32)
    return lambda step: jnp.interp(step, steps, values)
