"""What watches over a run: numbers that are not finite, steps compiled again, memory, profiles."""

import contextlib
import math
import socket
import sys

import jax
import numpy as np

from vos_jax import compilation
from vos_jax.data.pipeline import BatchMaker
from vos_jax.errors import InputError
from vos_jax.processes import gathered, is_writer, say
from vos_jax.storage.json_files import write_json


class NonFinite:
    """Deals with steps whose loss or gradient is not finite: saves their clips, stops or continues.

    The train step itself leaves such a batch out, so the weights are always sound.
    """

    def __init__(self, config, workdir):
        """WORKDIR/nonfinite gets the clips, from the process that writes."""
        self._config, self._folder, self._count = config, workdir / 'nonfinite', 0

    def check(self, step, metrics):
        """Looks at a finished step, by `loss`, `gradient_norm` and `finite` of its metrics.

        Raises:
          FloatingPointError: where the run has to stop.
        """
        if metrics['finite']:
            return
        self._count += 1
        what = 'loss' if not math.isfinite(metrics['loss']) else 'gradient'
        text = f'the {what} of step {step} is not finite'
        if is_writer():
            names = _save_clips(self._config, step - 1, self._folder, metrics)
            text += f'; its clips ({", ".join(sorted(set(names)))}) are in WORKDIR/nonfinite'
        mode, limit = self._config.training.nonfinite, self._config.training.nonfinite_limit
        if mode == 'stop' or self._count > limit:
            count = '' if mode == 'stop' else f' ({self._count} batches; the limit is reached)'
            raise FloatingPointError(
                f'{text}{count}. The checkpoints are sound; start again with a lower '
                'optimizer.learning_rate, with optimizer.clip_norm, or without these clips'
            )
        say(f'warning: {text}; left out, {self._count} of at most {limit}')


def _save_clips(config, index, folder, metrics):
    """Saves a batch, which follows from the seed and its number, and the metrics of its step.

    `folder` gets step_NNNNNNN.json (names, metrics) and .npz (frames, labels, objects). Gives the
    names of the clips, 'SOURCE/SEQUENCE' each.
    """
    # As the model sees them, wherever they are warped.
    maker = BatchMaker(config.data.warped, config.seed)
    names = maker.names(index)
    path = folder / f'step_{index + 1:07d}.json'
    numbers = {name: x if math.isfinite(x) else str(x) for name, x in metrics.items()}
    write_json(path, {'step': index + 1, 'clips': names, 'metrics': numbers})
    np.savez_compressed(path.with_suffix('.npz'), **maker(index))
    return names


class Compilations:
    """Notices when the train step is compiled again: some input has another shape or place."""

    def __init__(self, reaction):  # 'warn' or 'error'
        self._reaction, self._calls = reaction, 0

    @contextlib.contextmanager
    def watched(self, step):
        """Context of a call of the train step.

        Raises:
          RuntimeError: with 'error', where it was compiled though it had been called before.
        """
        before = compilation.count()
        yield
        self._calls += 1
        if self._calls > 1 and compilation.count() > before:
            text = (
                f'step {step} was compiled again: its inputs differ from those of the steps before '
                'in shape, type or sharding'
            )
            if self._reaction == 'error':
                raise RuntimeError(text)
            say(f'warning: {text}', file=sys.stderr)


class Watch:
    """Watches the calls of the train step: notices compilations, and records some in a trace.

    WORKDIR/profile gets a trace of `config.profile` steps, for TensorBoard and xprof. It has the
    name of the host: of several processes there all but the first have folders of their own, and
    each serves `config.profiler_port` plus its number on the host.

    Args:
      config: Config.
      workdir: folder of the run.
      start: step from which the run resumes.
    """

    WARM_UP = 10  # steps that come before the trace, in a run of more steps

    def __init__(self, config, workdir, start):
        left = config.training.steps - start
        count = min(config.profile, left)
        first = start + min(self.WARM_UP, left - count)
        self._profiled, self._is_on = range(first, first + count), False
        self._folder, self._port = workdir / 'profile', config.profiler_port
        if config.profile or config.profiler_port:
            index, hosts = jax.process_index(), gathered(socket.gethostname())
            if before := hosts[:index].count(hosts[index]):
                self._folder /= f'process_{index}'
                self._port = config.profiler_port and config.profiler_port + before
        self._compilations = Compilations(config.training.recompilation)

    @contextlib.contextmanager
    def watched(self, step):
        """Context of a call of the train step, with its number from 0."""
        if step in self._profiled[:1]:
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True
        # By which XProf knows where a step begins.
        annotation = jax.profiler.StepTraceAnnotation('train', step_num=step)
        with annotation, self._compilations.watched(step + 1):
            yield

    def after(self, step, result):
        """To be called after the `step`-th call, with what it gives."""
        if self._is_on and step == self._profiled.stop:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self):
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False
            say(f'profile of {len(self._profiled)} steps in WORKDIR/profile')

    def __enter__(self):
        if self._port:
            _refuse_taken(self._port)
            jax.profiler.start_server(self._port)
            print(f'profiler of process {jax.process_index()}: port {self._port}', flush=True)
        return self

    def __exit__(self, *exception):
        self._stop()
        if self._port:
            jax.profiler.stop_server()


def _refuse_taken(port):
    """Refuses a port that is taken: JAX would only log it, or share it with another process."""
    try:
        socket.create_server(('', port)).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"'profiler_port': {port} cannot be had ({error}); choose another, or 0 for none"
        ) from error
