"""Plans a run on a TPU slice, on a machine without one; the command is `vos_jax.commands.plan`.

The sharded train step is compiled ahead of time for the slice: memory, work, traffic between chips,
a step time by roofline, and which mesh to take. docs/tpu_pods.md explains the figures.
"""

import dataclasses
import functools
import math
import os
import time

from vos_jax.config.schema import MeshSpec
from vos_jax.errors import InputError, first_line
from vos_jax.planning import roofline
from vos_jax.training.remat import Needs, cheapest

NAMES = {  # what one rents -> topology, and options of its description
    'v4-8': 'v4:2x2x1',
    'v5e-4': 'v5e:2x2',
    'v5e-16': 'v5e:4x4',
    'v5e-256': 'v5e:16x16',
    'v5p-8': 'v5p:2x2x1',
    'v5p-64': 'v5p:2x4x4',
    'v6e-4': 'v6e:2x2',
    'v6e-64': 'v6e:8x8',
}

# libtpu asks a machine with TPUs for these, complains where it is none, and lets one process in.
NO_TPU = {
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def plan(config, topology, *, mesh='', is_compiled=True, price=None):
    """Plans a run and prints the plan.

    Args:
      config: Config.
      topology: KIND:SHAPE, or one of NAMES.
      mesh: 'DATAxFSDPxSPATIAL'; '': the one with the shortest estimate.
      is_compiled: whether the step is compiled for the slice.
      price: per chip and hour; None: not known.

    Returns:
      dict of the figures: estimates in seconds, and of a compiled step what `compile_for` gives.

    Raises:
      InputError: for a slice or a mesh that does not fit.
    """
    topology = NAMES.get(topology, topology)
    # A warp on the device depends on the sizes of the data, which need not be on this machine.
    data = config.data and config.data.warped
    config = dataclasses.replace(config, model=config.model.resolved('tpu'), data=data)
    chip, count = parse_topology(topology)
    rows, works = _rows(config, chip, count)
    chosen = _chosen(mesh, rows, count, config.data.batch_size)
    config, work = _with_remat(config, chosen.remat), works(chosen.remat)
    print(
        f'{topology}: {count} chips ({chip.describe()}), in {config.computes_in}, '
        f'remat {config.training.remat}'
    )
    print(work.describe())
    _print_candidates(rows, chosen)
    figures = {'topology': topology, 'chips': count, 'mesh': chosen.mesh, **chosen.figures()}
    figures['remat'] = config.training.remat
    if is_compiled:
        print('compiling for the slice: minutes, half an hour for a large model', flush=True)
        compiled = compile_for(config, topology, chosen.mesh)
        figures |= compiled
        _print_compiled(compiled, chip)
    _print_run(config, chosen, count, price)
    return figures


def parse_topology(topology):
    """(Chip, number of chips) of 'v5e:16x16'.

    >>> parse_topology('v5p:2x4x4')[1]
    32
    """
    kind, _, shape = topology.partition(':')
    chip = roofline.CHIPS.get(kind)
    try:
        sides = [int(side) for side in shape.split('x')]
    except ValueError:
        sides = []
    if chip is None or len(sides) != chip.num_sides or min(sides) < 1:
        kinds = ', '.join(f'{one.kind} ({one.num_sides} sides)' for one in roofline.CHIPS.values())
        raise InputError(
            f"--topology is '{topology}'; needed: KIND:SHAPE as v5e:4x4, KIND one of {kinds}; "
            f'or one of {", ".join(NAMES)}'
        )
    return chip, math.prod(sides)


def _with_remat(config, remat):
    """The config with a policy of rematerialisation."""
    training = dataclasses.replace(config.training, remat=remat)
    return dataclasses.replace(config, training=training)


def _rows(config, chip, count):
    """An estimate for each mesh, with the policy that suits the memory of its chips.

    Returns:
      List of roofline.Row, and a function that gives the Work with a policy.
    """
    works = functools.cache(lambda remat: roofline.work_of(_with_remat(config, remat)))
    program, remat = roofline.program_of(config), config.training.remat
    needs = Needs(program)
    height, stride = config.data.crop[0], program.model.stride
    rows = []
    for sizes in roofline.meshes(config.data.batch_size, -(-height // stride), count):
        policy = cheapest(needs, sizes, chip.memory_bytes) if remat == 'auto' else remat
        rows.append(roofline.estimate(works(policy), chip, sizes, policy))
    return rows, works


def _chosen(mesh, rows, count, batch):
    if not mesh:
        return min(rows, key=lambda row: (not row.fits, row.step_s))
    try:
        sizes = tuple(int(side) for side in mesh.split('x'))
    except ValueError:
        sizes = ()
    for row in rows:
        if row.sizes == sizes:
            return row
    raise InputError(
        f"--mesh is '{mesh}'; needed: DATAxFSDPxSPATIAL with product {count} whose first two "
        f'divide the batch of {batch}, as {"x".join(map(str, rows[0].sizes))}'
    )


def compile_for(config, topology, mesh):
    """Compiles the train step of a config for a slice ('v5e:4x4') and sizes of the mesh's axes.

    Returns:
      dict: bytes per chip (arguments, temporaries, peak), collectives by kind (number and bytes,
      loops multiplied out), seconds of compilation.

    Raises:
      InputError: without libtpu, or for a slice that it does not know.
    """
    from vos_jax.planning import hlo
    from vos_jax.training.program import Program

    config = dataclasses.replace(config, mesh=MeshSpec(**mesh))
    program = Program(config, devices_of(topology))
    start_s = time.perf_counter()
    compiled = program.trace().lower().compile()
    memory = compiled.memory_analysis()
    return {
        'compile_s': time.perf_counter() - start_s,
        'argument_bytes': memory.argument_size_in_bytes,
        'temporary_bytes': memory.temp_size_in_bytes,
        'peak_bytes': getattr(memory, 'peak_memory_in_bytes', 0)
        or memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        'collectives': hlo.collectives(compiled.as_text()),
    }


def devices_of(topology):
    from jax.experimental import topologies

    os.environ |= NO_TPU | os.environ
    options = {'chip_config_name': 'megacore'} if topology.startswith('v4') else {}
    try:
        described = topologies.get_topology_desc(platform='tpu', topology_name=topology, **options)
    except Exception as error:  # what libtpu, or its absence, raises is of many types
        raise InputError(
            f'{topology}: not compiled ({first_line(error)}); needed: pip install '
            "'vos_jax[plan]' in an environment of its own, or --nocompile for the "
            'estimate alone'
        ) from error
    return described.devices


def _print_candidates(rows, chosen):
    print('mesh (data x fsdp x spatial): estimated step (work / memory / chips talking), remat')
    for row in sorted(rows, key=lambda row: row.step_s)[:8]:
        mark = '  <- taken' if row is chosen else ''
        fits = '' if row.fits else '  weights do not fit'
        print(f'  {row.describe()}{fits}{mark}')


def _print_compiled(found, chip):
    gib = 2**30
    print(
        f'compiled in {found["compile_s"]:.0f} s: {found["peak_bytes"] / gib:.2f} GiB of '
        f'{chip.memory_bytes / gib:.0f} GiB per chip (arguments '
        f'{found["argument_bytes"] / gib:.2f}, temporaries {found["temporary_bytes"] / gib:.2f})'
    )
    for kind, (count, size) in sorted(found['collectives'].items()):
        print(f'  {kind}: {count} a step, {size / 2**20:.1f} MiB per chip')
    if found['peak_bytes'] > chip.memory_bytes:
        print('  does not fit: a larger mesh.fsdp or mesh.spatial, training.accumulate')


def _print_run(config, row, count, price):
    hours = config.training.steps * row.step_s / 3600
    print(
        f'run of {config.training.steps} steps by the estimate: {hours:.1f} h, '
        f'{hours * count:.0f} chip-hours' + (f', {hours * count * price:.0f}' if price else '')
    )
    sizes = ' '.join(f'--config.mesh.{name}={size}' for name, size in row.mesh.items())
    print(f'recommended: {sizes}')
