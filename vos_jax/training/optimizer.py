"""Optimizers of the recipes: optax's, put together from their settings."""

import re

import jax
import optax

from vos_jax.errors import InputError
from vos_jax.training import schedules


def make_optimizer(spec, steps):
    """The optax optimizer of an OptimizerSpec, and its learning rate as a function of the step.

    Weight decay leaves vectors alone (biases, norms); gradients are clipped by their global norm.
    """
    rate = schedules.learning_rate(spec, steps)
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
