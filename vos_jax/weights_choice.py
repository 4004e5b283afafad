"""Which weights a command runs: the flags for it, and the segmenter they ask for."""

import dataclasses
import functools

from absl import flags

from vos_jax.errors import InputError
from vos_jax.storage import checksum


def define_flags():
    """--weights, --workdir, --step and --memory."""
    flags.DEFINE_string('weights', None, "file of weights, or a name; default 'giel_small'")
    flags.DEFINE_string('workdir', None, 'folder of a training run, in place of --weights')
    flags.DEFINE_string('step', 'best', '--workdir: best, latest, or a step')
    flags.DEFINE_integer('memory', None, 'frames read at once; default: as the weights say')


def check_flags(wanted):
    """Tells what contradicts, before anything is loaded."""
    if wanted.weights and wanted.workdir:
        raise InputError('--weights and --workdir are both given; choose one')


def open_segmenter(wanted):
    """The segmenter, and as plain values what decides its results.

    Args:
      wanted: the flags above.
    """
    # Here: jax takes its time, and what is wrong with the input is told before.
    from vos_jax import compilation
    from vos_jax.evaluation import run
    from vos_jax.inference.segmenter import Segmenter

    if wanted.workdir:
        source = _read_run(wanted.workdir, wanted.step)
    else:
        source = run.read_weights(wanted.weights or 'giel_small')
        crc32 = f'{checksum.of_file(source.about["weights"]):08x}'
        source = dataclasses.replace(source, about={**source.about, 'crc32': crc32})
    compilation.keep_compilations()
    inference = dict(source.config.get('inference', {}))
    memory = dict(inference.get('memory', {}))
    if wanted.memory is not None:
        memory['size'] = wanted.memory
        memory['capacity'] = max(memory.get('capacity', 0), 64, wanted.memory)
    inference['memory'] = memory
    segmenter = Segmenter.from_config(
        {'model': source.config['model'], 'inference': inference}, source.variables
    )
    return segmenter, {**source.about, 'inference': inference}


def describe_device():
    """Device and software, as plain values."""
    import jax

    device = jax.local_devices()[0]
    return {
        'device': f'{device.device_kind} ({device.platform})',
        'software': f'jax {jax.__version__}',
    }


def _read_run(workdir, step):
    from vos_jax.config import recipe
    from vos_jax.evaluation import run
    from vos_jax.training import checkpoints

    stored = recipe.stored(workdir)
    read = functools.partial(checkpoints.read_variables, workdir)
    return run.read_checkpoint(stored, read, workdir, int(step) if step.isdecimal() else step)
