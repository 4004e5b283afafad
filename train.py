"""Trains a model: `python train.py --config=configs/giel_small.py --workdir=runs/a`.

The same command again goes on where the run stopped. On several hosts the same command runs on
each; docs/tpu_pods.md tells how they find each other.
"""

from absl import flags

from vos_jax import compilation
from vos_jax.config import recipe
from vos_jax.errors import InputError, run_main

CONFIG = recipe.define_flag()
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
COORDINATOR = flags.DEFINE_string(
    'coordinator_address', None, 'HOST:PORT of process 0, where the environment does not tell.'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Of the run.', lower_bound=1)
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Of this process, from 0.', lower_bound=0)


def main(argv):
    if len(argv) > 1:
        raise InputError(f"'{argv[1]}' is not a flag; settings are --config.NAME=VALUE")
    for name in ('config', 'workdir'):
        if flags.FLAGS[name].value is None:
            raise InputError(f'--{name} is missing; see README.md for a complete command')
    compilation.keep_compilations()
    from vos_jax.evaluation.heldout import HeldOut
    from vos_jax.training import loop, processes

    processes.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    with processes.ending_together():
        settings = CONFIG.value.evaluation
        evaluate = HeldOut(settings) if settings.sources else None
        loop.train(CONFIG.value, WORKDIR.value, evaluate)


if __name__ == '__main__':
    run_main(main)
