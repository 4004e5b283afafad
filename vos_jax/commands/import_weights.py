"""PyTorch weights in and out: a state_dict becomes a weights file of vos_jax, and back.

  vos-import --format=stm STM_weights.pth stm.npz
  vos-import --format=stm --export stm.npz stm.pth

Neither direction needs PyTorch, and no code in the .pth file is run. The formats and what each
takes: docs/weights.md.
"""

import functools
from pathlib import Path

from absl import flags as absl_flags

from vos_jax.errors import InputError, run_main
from vos_jax.storage.disk import explain_disk_errors, prepare_file


def define_flags():
    absl_flags.DEFINE_string('format', None, 'kind of the PyTorch checkpoint: docs/weights.md')
    absl_flags.DEFINE_bool('export', False, 'write the PyTorch checkpoint from a weights file')
    absl_flags.DEFINE_string('prefix', None, "before all exported names, as 'module.'")


def main(argv):
    wanted = absl_flags.FLAGS
    if len(argv) != 3:
        raise InputError(f'{len(argv) - 1} files named; needed: two, IN and OUT')
    source, target = argv[1:]
    ours = source if wanted.export else target
    if Path(ours).suffix != '.npz':
        raise InputError(f'{ours}: the weights file of vos_jax ends in .npz; --export writes .pth')
    prepare_file(target, 'file')
    from data_prep import import_weights  # here: it loads jax

    with explain_disk_errors(target, 'file'):
        if wanted.export:
            line = import_weights.export_weights(source, target, wanted.format, wanted.prefix)
        else:
            line = import_weights.import_weights(source, target, wanted.format)
    print(line)


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
