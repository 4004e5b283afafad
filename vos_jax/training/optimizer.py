"""Optimizers of the recipes: optax's, put together from their settings; and their schedules.

Schedules are functions of the global step, so a resumed run continues where it was.
"""

import re

import jax
import jax.numpy as jnp
import optax

from vos_jax.errors import InputError


def make_optimizer(spec, steps):
    """The optax optimizer of an OptimizerSpec, and its learning rate as a function of the step.

    Weight decay leaves vectors alone (biases, norms); gradients are clipped by their global norm.
    """
    rate = learning_rate(spec, steps)
    name, decay = spec.name, spec.weight_decay
    parts = []
    if spec.clip_norm:
        parts.append(optax.clip_by_global_norm(spec.clip_norm))
    if name != 'adamw' and decay:
        parts.append(optax.add_decayed_weights(decay, mask=_matrices))
    if name == 'adam':
        parts.append(optax.adam(rate))
    elif name == 'adamw':
        parts.append(optax.adamw(rate, weight_decay=decay, mask=_matrices))
    else:
        parts.append(optax.sgd(rate, momentum=spec.momentum))
    if spec.groups:
        parts.append(scale_groups(spec.groups))
    return optax.chain(*parts), rate


def scale_groups(groups):
    """Scales the updates of groups of parameters, weight decay among them; 0 freezes a group.

    Args:
      groups: ((pattern, factor), ...): regular expressions that are searched for in names such as
        'query_encoder/stage4_0/expand/kernel'. The first that is found counts; other parameters
        have factor 1.

    Returns:
      An optax transformation, the last one of an optimizer. Its `init` raises InputError for a
      pattern that no parameter has.
    """
    patterns = [(re.compile(pattern), factor) for pattern, factor in groups]

    def group_of(path):
        name = '/'.join(key.key for key in path)
        found = (index for index, (pattern, _) in enumerate(patterns) if pattern.search(name))
        return next(found, None)

    def init(params):
        used = {group_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
        for index, (pattern, _) in enumerate(patterns):
            if index not in used:
                raise InputError(
                    f"'optimizer.groups': the pattern {pattern.pattern!r} names no parameter that "
                    'none before it names; correct or remove it'
                )
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params

        def scaled(path, update):
            index = group_of(path)
            return update if index is None else update * patterns[index][1]

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


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
