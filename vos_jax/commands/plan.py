"""Plans a run on a TPU slice, on a machine without one.

  python -m vos_jax.commands.plan --config=giel_resnet50 --topology=v5e:16x16

Compiles the sharded train step ahead of time for the slice and prints memory, work, traffic between
chips, a step time by roofline, and which mesh to take. Needs libtpu (the extra plan); with
--nocompile only what follows from the shapes is printed. docs/tpu_pods.md explains the figures.
"""

import functools
import os

from absl import flags as absl_flags

from vos_jax.commands import flags
from vos_jax.errors import run_main
from vos_jax.models.registry import read_config
from vos_jax.storage.disk import prepare_file
from vos_jax.storage.json_files import write_json


def define_flags():
    from vos_jax import recipe

    recipe.define_flag()
    define = absl_flags.DEFINE_string
    define('topology', 'v5e:16x16', 'KIND:SHAPE, or a name of a slice as v5e-256')
    define('mesh', '', "DATAxFSDPxSPATIAL; '': the one with the shortest estimate")
    absl_flags.DEFINE_bool('compile', True, 'compile for the slice (minutes, needs libtpu)')
    flags.define_number('price', None, 'per chip and hour, in any currency', 0)
    absl_flags.DEFINE_string('out', None, 'JSON file for the figures')


def main(argv):
    wanted = absl_flags.FLAGS
    flags.refuse_arguments(argv, 'settings are --config.NAME=VALUE')
    flags.require(wanted, ('config',), 'docs/tpu_pods.md')
    os.environ['JAX_PLATFORMS'] = 'cpu'  # or JAX would look for a TPU in this machine
    if wanted.out:
        prepare_file(wanted.out)
    from vos_jax.planning.slices import plan  # here: it loads jax

    figures = plan(
        read_config(wanted.config),
        wanted.topology,
        mesh=wanted.mesh,
        is_compiled=wanted.compile,
        price=wanted.price,
    )
    if wanted.out:
        write_json(wanted.out, figures)
        print(f'figures in {wanted.out}')


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
