"""Loss and gradients of a tiny model on meshes of eight virtual devices: run by test_sharding.py.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu \
      python -m tests.training.layouts giel|cfbi

Prints a line of JSON for each mesh. Eight devices must be asked for before jax starts, hence a
process of its own.
"""

import dataclasses
import functools
import json
import os
import sys

import jax
import numpy as np
import optax

from tests.models import tiny, tiny_cfbi
from vos_jax.config.schema import Config, LossSpec, MeshSpec, TrainingSpec
from vos_jax.training import sharding
from vos_jax.training import step as steps

LAYOUTS = ((8, 1, 1), (2, 4, 1), (2, 1, 4), (2, 2, 2))
# 40 rows are 5 cells: not every device gets as many. CFBI sees 33 x 49 pixels, 9 rows of features.
SIZES = {'giel': (40, 24), 'cfbi': (33, 49)}
MIN_VALUES = 64  # the tiny weights count as large


def config_of(name):
    """Every term that the model has, and mined pixels."""
    propagation = 1.0 if name == 'giel' else 0.0
    loss = LossSpec(dice=0.5, propagation=propagation, hardest=((0, 0.5), (9, 0.5)))
    return Config(model=tiny.SPEC, loss=loss, training=TrainingSpec(ema_decay=0.9))


def model_of(name):
    """Model and its variables; GIEL with batch statistics, CFBI's backbone as published."""
    if name == 'giel':
        model = tiny.giel()
        return model, tiny.variables_of(model)
    # GroupNorm of a pooled pixel, which the tiny backbone has otherwise, is nearly a sign.
    backbone = dataclasses.replace(tiny_cfbi.SPEC.backbone, norm='frozen_bn')
    model = tiny_cfbi.build(backbone=backbone)
    return model, _without_kinks(tiny.fill(tiny_cfbi.shapes_of(model)))


def _without_kinks(variables):
    """The same with norms whose results are positive.

    CFBI has so many ReLUs that the order of a sum moves some across their kink, and one of them
    changes small gradients by percents.
    """

    def moved(path, leaf):
        if not any('norm' in part.key for part in path):
            return leaf
        return {'scale': 0.2 * leaf, 'bias': 1 + leaf}.get(path[-1].key, leaf)

    return jax.tree_util.tree_map_with_path(moved, variables)


def batch_of(name, clips=8, length=3):
    """Clips with different numbers of objects and of valid pixels."""
    batch = tiny.clip(batch=clips, length=length, size=SIZES[name], num_slots=2, num_objects=2)
    for index in range(0, clips, 3):
        batch['labels'][index][batch['labels'][index] == 2] = 0
        batch['objects'][index, 1] = False
        batch['labels'][index, 1:, : 3 + index] = 255
    return batch


def state_of(variables):
    """A TrainState whose optimizer keeps momentum."""
    params, statistics = variables['params'], variables.get('batch_stats', {})
    momentum = optax.sgd(0.1, momentum=0.9).init(params)
    return steps.TrainState(np.int32(0), params, statistics, params, momentum)


def gradient_on(name, mesh, state, batch):
    """(loss, gradients, batch_stats) as NumPy, and the bytes of temporaries of a device."""
    model, _ = model_of(name)
    constraints = sharding.Constraints(mesh, MIN_VALUES)
    config = config_of(name)
    objective = steps.Objective(model, config.loss, config.training, config.seed, constraints)
    gradient_of = functools.partial(steps.gradient_of, objective)
    in_state = sharding.shard_state(state, mesh, MIN_VALUES)
    in_batch = sharding.shard_batch(batch, mesh)
    compiled = tiny.jax.jit(gradient_of).lower(
        jax.device_put(state, in_state), sharding.to_devices(batch, in_batch)
    )
    compiled = compiled.compile()
    result = compiled(jax.device_put(state, in_state), sharding.to_devices(batch, in_batch))
    statistics, (loss, _, gradients) = result
    if mesh.shape['fsdp'] > 1:
        for leaf in jax.tree.leaves(gradients):
            assert leaf.nbytes < 4 * MIN_VALUES or not leaf.is_fully_replicated
    found = jax.tree.map(np.asarray, (loss, gradients, statistics))
    return found, compiled.memory_analysis().temp_size_in_bytes


def error(found, expected):
    """Largest difference of a tensor, relative to its largest value; for all tensors."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected))
    return max(float(abs(a - b).max() / max(abs(b).max(), 1e-3)) for a, b in pairs)


def main(name):
    """Compares each layout with one device."""
    _, variables = model_of(name)
    state, batch = state_of(variables), batch_of(name)
    one = sharding.make_mesh(MeshSpec(), jax.devices()[:1])
    expected, whole_bytes = gradient_on(name, one, state, batch)
    for sizes in LAYOUTS:
        mesh = sharding.make_mesh(MeshSpec(*sizes))
        found, part_bytes = gradient_on(name, mesh, state, batch)
        errors = {
            part: error(a, b)
            for part, a, b in zip(('loss', 'gradients', 'batch_stats'), found, expected)
            if jax.tree.leaves(a)
        }
        print(
            json.dumps({'layout': sizes, **errors, 'memory': part_bytes / whole_bytes}), flush=True
        )


if __name__ == '__main__':
    assert 'device_count=8' in os.environ['XLA_FLAGS']
    main(sys.argv[1])
