"""Trains a model: `python train.py --config=configs/giel_small.py --workdir=runs/a`.

The same command again goes on where the run stopped.
"""

from absl import flags

from vos_jax import compilation, config
from vos_jax.errors import InputError, run_main

CONFIG = config.define_flag()
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')


def main(argv):
    if len(argv) > 1:
        raise InputError(f"'{argv[1]}' is not a flag; settings are --config.NAME=VALUE")
    for name in ('config', 'workdir'):
        if flags.FLAGS[name].value is None:
            raise InputError(f'--{name} is missing; see README.md for a complete command')
    compilation.keep_compilations()
    from vos_jax.evaluation.heldout import HeldOut
    from vos_jax.training import loop

    settings = CONFIG.value.evaluation
    evaluate = HeldOut(settings) if settings.sources else None
    loop.train(CONFIG.value, WORKDIR.value, evaluate)


if __name__ == '__main__':
    run_main(main)
