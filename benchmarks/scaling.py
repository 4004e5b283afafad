"""Times training on more and more devices: python -m benchmarks.scaling [--devices=1,2,4,8].

The sharded train step as train.py runs it, fed by the loader from made-up video, on the first n
devices of a machine with accelerators, or on n virtual ones of a CPU: those share its cores, so
they show what sharding costs, not what it gains. One row for each n, in a process of its own:
steps and clips per second, the share of the time the loop waited for data, and XLA's planned memory
of a device.
"""

import contextlib
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import jax
from absl import flags

from benchmarks import inputs, measuring
from vos_jax import recipe as configs
from vos_jax.config.schema import Source
from vos_jax.data import scenes
from vos_jax.errors import InputError, run_main

COLUMNS = 'mesh batch steps_hz clips_hz efficiency stall cpu_s planned_mb'


def measure(spec, overrides, sizes, num_steps, per_device):
    """One row, for one mesh.

    Args:
      spec: FILE[:VARIANT]; overrides: of its settings.
      sizes: of the axes data, fsdp, spatial.
      num_steps: to time.
      per_device: clips for each part of the batch; 0: the batch of the config on all together.
    """
    from vos_jax.training import sharding
    from vos_jax.training.log import Follower
    from vos_jax.training.program import Program

    axes = dict(zip(sharding.AXES, sizes))
    overrides = [*overrides, *(f'mesh.{name}={size}' for name, size in axes.items())]
    if per_device:
        overrides.append(f'data.batch_size={per_device * sizes[0] * sizes[1]}')
    with tempfile.TemporaryDirectory() as folder:
        height, width = configs.load(spec, overrides).data.crop
        size = (height + height // 4, width + width // 4)
        scenes.write_dataset(Path(folder), num_train=8, num_val=1, frames=8, size=size, seed=0)
        config = configs.load(spec, overrides)
        data = dataclasses.replace(config.data, sources=(Source(folder, 'synthetic'),))
        config = dataclasses.replace(config, data=data)
        program = Program(config, jax.devices()[: sizes[0] * sizes[1] * sizes[2]])
        state = _state(program)
        with contextlib.closing(program.batches(0)) as batches, Follower() as follower:
            batch = next(batches)
            compiled = program.step.lower(state, batch).compile()
            state, metrics = compiled(state, batch)
            jax.block_until_ready(metrics)
            start_s, cpu_s, wait_s = time.perf_counter(), time.process_time(), 0.0
            for step in range(num_steps):
                wanted_s = time.perf_counter()
                batch = next(batches)
                wait_s += time.perf_counter() - wanted_s
                state, metrics = compiled(state, batch)
                follower.give(step + 1, metrics)
            follower.finished(wait=True)
            wall_s = time.perf_counter() - start_s
            cpu_s = time.process_time() - cpu_s
    plan = compiled.memory_analysis()
    return {
        'mesh': 'x'.join(map(str, sizes)),
        'devices': program.mesh.size,
        'batch': config.data.batch_size,
        'steps_hz': num_steps / wall_s,
        'clips_hz': num_steps * config.data.batch_size / wall_s,
        'stall': wait_s / wall_s,
        'cpu_s': cpu_s / num_steps,
        'planned_mb': (plan.argument_size_in_bytes + plan.temp_size_in_bytes) / 2**20,
        'machine': measuring.machine(),
    }


def _state(program):
    """A state with made-up weights, in its place."""
    shapes = program.state
    zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), shapes)
    params = inputs.fill(shapes.params)
    state = zeros.replace(
        params=params,
        batch_stats=inputs.fill(shapes.batch_stats),
        ema=params if shapes.ema else {},
    )
    return jax.device_put(state, program.in_state)


def meshes(devices, axis, accelerators):
    """Sizes of the axes for each number of devices: all of them along one axis."""
    if accelerators and max(devices) > accelerators:
        raise InputError(f'--devices has {max(devices)}; this machine has {accelerators}')
    place = ('data', 'fsdp', 'spatial').index(axis)
    return [tuple(n if i == place else 1 for i in range(3)) for n in devices]


def main(argv):
    """Measures and prints; one row per number of devices."""
    del argv
    wanted = flags.FLAGS
    try:
        devices = [int(text) for text in wanted.devices]
    except ValueError as error:
        raise InputError(f'--devices is {wanted.devices}; needed: numbers, as 1,2,4,8') from error
    accelerators = jax.device_count() if jax.default_backend() != 'cpu' else 0
    rows = []
    for sizes in meshes(devices, wanted.axis, accelerators):
        count = max(sizes)
        if not accelerators:
            # Read by the process that measures, when it starts JAX.
            os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={count}'
        print(f'{wanted.config} on {count} devices', flush=True)
        row = measuring.in_own_process(
            measure, wanted.config, wanted.set, sizes, wanted.steps, wanted.per_device
        )
        first = rows[0] if rows else row
        # Clips a second for each device, relative to the first row.
        row['efficiency'] = row['clips_hz'] / first['clips_hz'] * first['devices'] / count
        rows.append(row)
    measuring.report('scaling', rows, COLUMNS, wanted.out)


if __name__ == '__main__':
    flags.DEFINE_string('config', 'configs/giel_small.py:tiny', 'FILE[:VARIANT] of the run.')
    flags.DEFINE_list('devices', ['1', '2', '4', '8'], 'Numbers of devices.')
    flags.DEFINE_enum('axis', 'data', ['data', 'fsdp', 'spatial'], 'Axis that grows.')
    flags.DEFINE_multi_string('set', ['data.batch_size=8'], 'A setting, as data.batch_size=16.')
    flags.DEFINE_integer('per_device', 0, 'Clips per device; 0: as many in all.', lower_bound=0)
    flags.DEFINE_integer('steps', 10, 'Steps to time.', lower_bound=1)
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
