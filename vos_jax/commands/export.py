"""Writes a model for elsewhere: as one file of weights, or as a program.

  vos-export --workdir=RUN --out=FILE.npz           the weights of a run, with its config
  vos-export --size=854x480 --out=DIR               StableHLO, with a loader

FILE.npz holds the averaged weights where the run keeps an average, and its config: it is all that
`vos-evaluate --weights=FILE.npz` and `open_model('FILE.npz')` need. DIR holds one program for CPU,
GPU and TPU with fixed shapes, its weights, and a loader that needs jax and NumPy alone:
docs/own_video.md.
"""

import functools
import importlib

from absl import flags as absl_flags
from absl import logging

from vos_jax.commands import flags
from vos_jax.errors import InputError, run_main
from vos_jax.storage.disk import explain_disk_errors, prepare_file, writing_to
from vos_jax.storage.names import parse_size

_SEE = 'docs/own_video.md#elsewhere'
_PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
# Flags of one form that mean nothing to the other.
_OF_PROGRAM = ('size', 'objects', 'platforms', 'memory', 'weights')
_OF_WEIGHTS = ('dtype', 'note')


def define_flags():
    flags.define_model()
    absl_flags.DEFINE_string('out', None, 'file of weights, *.npz, or folder of the program')
    absl_flags.DEFINE_string('size', None, 'program: size of the frames, WIDTHxHEIGHT')
    absl_flags.DEFINE_integer('objects', 1, 'program: most objects', 1, 254)
    absl_flags.DEFINE_list(
        'platforms', ['cpu', 'cuda', 'tpu'], f'program: where it runs; of {", ".join(_PLATFORMS)}'
    )
    absl_flags.DEFINE_enum('dtype', 'float32', ('float32', 'float16'), 'weights: as stored')
    absl_flags.DEFINE_string('note', '', 'weights: what else should be known: data, terms, figures')


def main(argv):
    """Does what the flags say; what is wrong with the input is reported before the model loads."""
    wanted = absl_flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    flags.refuse_arguments(argv, f'see {_SEE}')
    flags.require(wanted, ('out',), _SEE)
    if wanted.out.endswith('.npz'):
        _refuse(wanted, _OF_PROGRAM, '--out=FILE.npz writes the weights of a run')
        flags.require(wanted, ('workdir',), 'docs/weights.md')
        with explain_disk_errors(wanted.out):
            prepare_file(wanted.out)
            flags.check_model(wanted)
            _export_weights(wanted)
        return
    flags.check_model(wanted)
    flags.require(wanted, ('size',), _SEE)
    _refuse(wanted, _OF_WEIGHTS, '--out=FOLDER writes a program')
    size = parse_size(wanted.size)
    importlib.import_module('flatbuffers')  # jax.export asks for it only when all is traced
    _check_platforms(wanted.platforms)
    with writing_to(wanted.out, known_by='about.json') as mirror:
        folder = mirror.folder
        if folder.is_dir() and not (folder / 'about.json').is_file() and any(folder.iterdir()):
            raise InputError(f'{folder}: holds something else; name another --out')
        _export_program(wanted, folder, size)


def _refuse(wanted, names, reason):
    for name in names:
        if not wanted[name].using_default_value:
            raise InputError(f'--{name} does not fit: {reason}; see {_SEE}')


def _check_platforms(names):
    unknown = [name for name in names if name not in _PLATFORMS]
    if unknown or not names:
        found = f"'{unknown[0]}'" if unknown else 'nothing'
        raise InputError(f'--platforms has {found}; some of {", ".join(_PLATFORMS)}')


def _export_weights(wanted):
    model = flags.open_model(wanted)
    from vos_jax import weights

    step = model.about['step']
    extra = {'step': step, 'note': wanted.note}
    weights.export_weights(wanted.out, model.variables, model.config, extra, wanted.dtype)
    count = sum(array.size for array in weights.named(model.variables).values())
    print(f'{wanted.out}: {count:,} values of step {step}, {wanted.dtype}')


def _export_program(wanted, folder, size):
    model = flags.open_model(wanted).on(*wanted.platforms)
    from vos_jax.inference.program import stablehlo

    print(
        f'{model.name}: frames of {wanted.size}, {", ".join(wanted.platforms)}, in '
        f'{model.config.computes_in}',
        flush=True,
    )
    about = stablehlo.export_step(
        model.segmenter(), folder, size, wanted.objects, platforms=tuple(wanted.platforms)
    )
    size_mb = sum(path.stat().st_size for path in folder.glob('*')) / 2**20
    print(f'{about["slots"]} objects, {about["memory"]["size"]} frames read; {size_mb:.1f} MB')
    print(f'try it: PYTHONPATH={wanted.out} python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy')


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
