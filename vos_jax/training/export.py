"""Writes the weights of a run as one file: `python -m vos_jax.training.export --help`.

The averaged weights where the run keeps an average; the file holds the run's config too, so
`evaluate.py --weights=F` and `Segmenter.from_pretrained(F)` need nothing else.
"""

from absl import flags

from vos_jax import config, weights
from vos_jax.errors import InputError, run_main
from vos_jax.training.checkpoints import read_variables

WORKDIR = flags.DEFINE_string('workdir', None, 'folder of the run')
OUT = flags.DEFINE_string('out', None, 'file to write, *.npz')
STEP = flags.DEFINE_string('step', 'latest', 'latest, best, or a step')
DTYPE = flags.DEFINE_enum('dtype', 'float32', ('float32', 'float16'), 'of the stored weights')
NOTE = flags.DEFINE_string('note', '', 'what else should be known: data, terms, figures')


def main(argv):
    del argv
    for name in ('workdir', 'out'):
        if flags.FLAGS[name].value is None:
            raise InputError(f'--{name} is missing')
    settings = config.stored(WORKDIR.value)
    step = int(STEP.value) if STEP.value.isdigit() else STEP.value
    variables, record = read_variables(WORKDIR.value, step)
    extra = {'step': record['step'], 'note': NOTE.value}
    weights.export_weights(OUT.value, variables, settings, extra, DTYPE.value)
    count = sum(array.size for array in weights.named(variables).values())
    print(f'{OUT.value}: {count:,} values of step {record["step"]}, {DTYPE.value}')


if __name__ == '__main__':
    run_main(main)
