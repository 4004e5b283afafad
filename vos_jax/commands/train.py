"""Trains a model: vos-train --config=giel_small --workdir=runs/a

The same command again resumes where the run stopped. On several hosts the same command runs on
each; docs/tpu_pods.md says how they find each other. Settings are those of the config, by name:
--config.optimizer.learning_rate=1e-4.
"""

import functools

from absl import flags as absl_flags

from vos_jax.commands import flags
from vos_jax.config import plain
from vos_jax.errors import run_main
from vos_jax.models.registry import read_config
from vos_jax.storage.disk import prepare_folder
from vos_jax.storage.paths import absolute, path_of


def define_flags():
    from vos_jax import recipe

    recipe.define_flag()
    absl_flags.DEFINE_string('workdir', None, 'folder of a training run')
    flags.define_processes()


def main(argv):
    wanted = absl_flags.FLAGS
    flags.refuse_arguments(argv, 'settings are --config.NAME=VALUE')
    flags.require(wanted, ('config', 'workdir'), 'README.md: --config=giel_small:tiny --workdir=a')
    config = read_config(wanted.config)
    prepare_folder(wanted.workdir, '--workdir')
    # Here and not above: wrong settings are refused before jax is loaded.
    from vos_jax.evaluation.heldout import HeldOut
    from vos_jax.training import loop

    processes = flags.join_processes(wanted)
    with processes.ending_together():
        workdir = str(absolute(path_of(wanted.workdir)))
        processes.check_same({'--workdir': workdir, **plain.to_plain(config)})
        evaluate = HeldOut(config.evaluation) if config.evaluation.sources else None
        if evaluate:
            processes.check_same(evaluate.listing())
        loop.train(config, wanted.workdir, evaluate)


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
