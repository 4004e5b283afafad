"""How a training run is doing: vos-status RUN

RUN is its folder, local or gs://. Prints step, speed, loss, J&F, remaining time and checkpoints.
"""

import functools
import math
import sys
import time

from absl import flags as absl_flags

from vos_jax import recipe
from vos_jax.commands import flags
from vos_jax.errors import InputError, run_main
from vos_jax.storage import paths
from vos_jax.storage.progress import duration


def describe(workdir, now_s):
    """Lines about a run.

    Args:
      workdir: its folder, local or gs://.
      now_s: the time, as `time.time` gives it.

    Raises:
      InputError: where it is no run, or cannot be read.
    """
    steps = recipe.stored(workdir).training.steps
    # Here and not above: jax and TensorBoard are not needed to refuse what is no run.
    from vos_jax import checkpoint_files
    from vos_jax.training.metric_writer import read_metrics

    with paths.explained(workdir, 'cannot be read'):
        metrics = read_metrics(workdir)
        about = (paths.path_of(workdir) / 'metrics.jsonl').stat() if metrics else None
    logged = [line for line in metrics if _number(line, 'machine/step_s')]
    if not logged:
        return [f'{workdir}: no step of {steps:,} is logged yet']
    last, step_s = logged[-1], logged[-1]['machine/step_s']
    loss = _number(last, 'loss')
    loss = 'loss not finite' if loss is None else f'loss {loss:.4g}'
    left = duration((steps - last['step']) * step_s)
    written_s = about.mtime if paths.is_bucket(workdir) else about.st_mtime
    lines = [
        f'{workdir}: step {last["step"]:,} of {steps:,}, {1 / step_s:.3g} steps/s, '
        + ('finished' if last['step'] >= steps else f'ETA {left}'),
        f'{loss}, logged {duration(max(now_s - written_s, 0))} ago',
    ]
    scores = [(_number(line, 'evaluation/jf'), line['step']) for line in metrics]
    scores = [one for one in scores if one[0] is not None]
    if scores:
        (jf, step), (best, of_best) = scores[-1], max(scores)
        lines.append(f'J&F {100 * jf:.1f} (step {step:,}), best {100 * best:.1f} ({of_best:,})')
    found = ', '.join(f'{step:,}' for step in checkpoint_files.list_steps(workdir))
    return [*lines, f'checkpoints: {found or "none"}']


def _number(line, name):
    """A finite value of a line of metrics.jsonl, else None: what is not finite is null there."""
    value = line.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def define_flags():
    flags.define_number('every', None, 'again after so many seconds; default: once', 1)


def main(argv):
    if len(argv) != 2:
        raise InputError('name one run: vos-status RUN')
    every_s = absl_flags.FLAGS.every
    print('\n'.join(describe(argv[1], time.time())), flush=True)
    while every_s:
        time.sleep(every_s)
        try:
            print('\n'.join(['', *describe(argv[1], time.time())]), flush=True)
        except InputError as error:  # the next look may find the service, or the disk, there again
            print(f'error: {error}', file=sys.stderr, flush=True)


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
