"""Writes a model as StableHLO: python -m vos_jax.commands.export --size=854x480 --out=DIR

One program for CPU, GPU and TPU with fixed shapes, its weights, and a loader that needs jax and
NumPy alone. All flags: --help. More: docs/own_video.md. Weights as a file are written by
vos_jax.commands.export_weights.
"""

from pathlib import Path

from absl import flags, logging

from vos_jax import weights_choice
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation.output_files import explain_disk_errors, prepare_folder
from vos_jax.storage.names import parse_size


def define_flags():
    # Not at the top: other commands have flags of the same names.
    weights_choice.define_flags()
    flags.DEFINE_string('out', None, 'folder of the exported model')
    flags.DEFINE_string('size', None, 'frames, WIDTHxHEIGHT')
    flags.DEFINE_integer('objects', 1, 'most objects', lower_bound=1, upper_bound=254)
    flags.DEFINE_list('platforms', ['cpu', 'cuda', 'tpu'], 'where it shall run; also rocm')


def main(argv):
    """Does what the flags say; what is wrong with the input is told before the model is loaded."""
    wanted = flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    if len(argv) != 1:
        raise InputError(f"'{argv[1]}' is no flag; see docs/own_video.md#elsewhere")
    for name in ('out', 'size'):
        if wanted[name].value is None:
            raise InputError(f'--{name} is missing; see docs/own_video.md#elsewhere')
    weights_choice.check_flags(wanted)
    size = parse_size(wanted.size)
    folder = Path(wanted.out)
    if folder.exists() and not (folder / 'about.json').is_file() and any(folder.iterdir()):
        raise InputError(f'{folder}: holds something else; name another --out')
    with explain_disk_errors():
        prepare_folder(folder)
        _export(wanted, folder, size)


def _export(wanted, folder, size):
    segmenter, source = weights_choice.open_segmenter(wanted)
    from vos_jax.inference.program import stablehlo

    name = source.get('weights') or f'{source["workdir"]} step {source["step"]}'
    print(f'{name}: frames of {wanted.size}, {", ".join(wanted.platforms)}', flush=True)
    about = stablehlo.export_step(
        segmenter, folder, size, wanted.objects, platforms=tuple(wanted.platforms)
    )
    size_mb = sum(path.stat().st_size for path in folder.glob('*')) / 2**20
    print(f'{about["slots"]} objects, {about["memory"]["size"]} frames read; {size_mb:.1f} MB')
    print(f'try it: PYTHONPATH={folder} python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy')


if __name__ == '__main__':
    define_flags()
    run_main(main)
