"""Writes the weights of a run as one file: `python -m vos_jax.commands.export_weights --help`.

The averaged weights where the run keeps an average; the file holds the run's config too, so
`evaluate.py --weights=F` and `Segmenter.from_pretrained(F)` need nothing else.
"""

from absl import flags

from vos_jax import weights
from vos_jax.config import recipe
from vos_jax.errors import InputError, run_main
from vos_jax.training.checkpoints import read_variables


def define_flags():
    # Not at the top: other commands have flags of the same names.
    flags.DEFINE_string('workdir', None, 'folder of the run')
    flags.DEFINE_string('out', None, 'file to write, *.npz')
    flags.DEFINE_string('step', 'latest', 'latest, best, or a step')
    flags.DEFINE_enum('dtype', 'float32', ('float32', 'float16'), 'of the stored weights')
    flags.DEFINE_string('note', '', 'what else should be known: data, terms, figures')


def main(argv):
    del argv
    wanted = flags.FLAGS
    for name in ('workdir', 'out'):
        if wanted[name].value is None:
            raise InputError(f'--{name} is missing; see --help')
    settings = recipe.stored(wanted.workdir)
    step = int(wanted.step) if wanted.step.isdigit() else wanted.step
    variables, record = read_variables(wanted.workdir, step)
    extra = {'step': record['step'], 'note': wanted.note}
    weights.export_weights(wanted.out, variables, settings, extra, wanted.dtype)
    count = sum(array.size for array in weights.named(variables).values())
    print(f'{wanted.out}: {count:,} values of step {record["step"]}, {wanted.dtype}')


if __name__ == '__main__':
    define_flags()
    run_main(main)
