"""Schedules: functions of the global step, so a resumed run continues where it was.

The learning rates of the recipes, values that grow with the training (curricula), and how rate and
steps scale with the batch.
"""

from typing import NamedTuple

import jax.numpy as jnp
import optax

from vos_jax.errors import InputError


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


class Scaled(NamedTuple):
    """A recipe's rate and steps at another batch, and the line that says so."""

    rate: float
    steps: int
    text: str


def scaled_for_batch(rate, steps, batch, reference_batch, optimizer):
    """Scales a recipe to another global batch: as many clips in all, so fewer and larger steps.

    The rate goes with the batch for SGD, with its square root for Adam. Never applied silently: the
    caller prints `text`.

    Args:
      rate, steps: of the recipe, at `reference_batch` clips.
      batch: clips per step of this run.
      optimizer: 'sgd', 'adam' or 'adamw'.

    Returns:
      Scaled.

    >>> print(scaled_for_batch(1e-5, 160_000, 64, 16, 'adam').text)
    batch 64 instead of 16: learning rate 1e-05 -> 2e-05 (square root, adam), steps 160000 -> 40000
    """
    exponents = {
        'sgd': (1.0, 'linear'),
        'adam': (0.5, 'square root'),
        'adamw': (0.5, 'square root'),
    }
    if optimizer not in exponents:
        raise InputError(f"optimizer '{optimizer}' is not one of {', '.join(exponents)}")
    exponent, rule = exponents[optimizer]
    ratio = batch / reference_batch
    scaled_rate, scaled_steps = rate * ratio**exponent, max(1, round(steps / ratio))
    text = (
        f'batch {batch} instead of {reference_batch}: '
        f'learning rate {rate:.3g} -> {scaled_rate:.3g} ({rule}, {optimizer}), '
        f'steps {steps} -> {scaled_steps}'
    )
    return Scaled(scaled_rate, scaled_steps, text)
