"""What watches over a run: numbers that are not finite, steps compiled again, memory, profiles."""

import contextlib
import math
import sys

import jax
import numpy as np

from vos_jax import compilation
from vos_jax.data.pipeline import BatchMaker
from vos_jax.storage.json_files import write_json
from vos_jax.training.processes import say


class NonFinite:
    """Deals with steps whose loss or gradient is not finite: saves their clips, stops or continues.

    The train step itself leaves such a batch out, so the weights are always sound.
    """

    def __init__(self, config, workdir, is_writer=True):
        """WORKDIR/nonfinite gets the clips, from the process that writes."""
        training = config.training
        self._mode, self._limit = training.nonfinite, training.nonfinite_limit
        self._config, self._folder = config, workdir / 'nonfinite'
        self._is_writer, self._count = is_writer, 0

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
        if self._is_writer:
            names = save_clips(self._config, step - 1, self._folder, metrics)
            text += f'; its clips ({", ".join(sorted(set(names)))}) are in WORKDIR/nonfinite'
        if self._mode == 'stop' or self._count > self._limit:
            limit = (
                '' if self._mode == 'stop' else f' ({self._count} batches; the limit is reached)'
            )
            raise FloatingPointError(
                f'{text}{limit}. The checkpoints are sound; start again with a lower '
                'optimizer.learning_rate, with optimizer.clip_norm, or without these clips'
            )
        if self._is_writer:
            say(f'warning: {text}; left out, {self._count} of at most {self._limit}')


def save_clips(config, index, folder, metrics):
    """Saves a batch, which follows from the seed and its number, and the metrics of its step.

    `folder` gets step_NNNNNNN.json (names, metrics) and .npz (frames, labels, objects). Gives the
    names of the clips, 'SOURCE/SEQUENCE' each.
    """
    maker = BatchMaker(config.data, config.seed)
    names = maker.names(index)
    path = folder / f'step_{index + 1:07d}.json'
    numbers = {
        name: value if math.isfinite(value) else str(value) for name, value in metrics.items()
    }
    record = {'step': index + 1, 'clips': names, 'metrics': numbers}
    write_json(path, record)
    np.savez_compressed(path.with_suffix('.npz'), **maker(index))
    return names


class Compilations:
    """Notices when the train step is compiled again: some input has another shape or place.

    Args:
      reaction: 'warn' or 'error'.
    """

    def __init__(self, reaction):
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


class Profile:
    """Records a trace of some steps to WORKDIR/profile, for TensorBoard and xprof.

    Args:
      workdir: folder of the run.
      steps: how many; 0: none.
      start: step from which the run resumes.
      end: last step of the run.
    """

    WARM_UP = 10  # steps that come first, in a run of more steps

    def __init__(self, workdir, steps, start, end):
        steps = min(steps, end - start)
        self._folder = str(workdir / 'profile')
        self._first = start + min(self.WARM_UP, end - start - steps)
        self._last = self._first + steps
        self._is_on = False

    def before(self, step):
        """To be called before each step, with its number from 0."""
        if step == self._first and self._last > self._first:
            jax.profiler.start_trace(self._folder)
            self._is_on = True

    def after(self, step, result):
        """To be called after each step, with what it gives."""
        if self._is_on and step + 1 == self._last:
            jax.block_until_ready(result)
            self.stop()

    def stop(self):
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False
            say(f'profile of {self._last - self._first} steps in WORKDIR/profile')


class Watch:
    """Watches the calls of the train step: a Profile of some, and Compilations.

    Args:
      config: Config.
      workdir: folder of the run.
      start: step from which the run resumes.
    """

    def __init__(self, config, workdir, start):
        self._profile = Profile(workdir, config.profile, start, config.training.steps)
        self._port = config.profiler_port
        self._compilations = Compilations(config.training.recompilation)

    @contextlib.contextmanager
    def watched(self, step):
        """Context of a call of the train step, with its number from 0."""
        self._profile.before(step)
        # By which XProf knows where a step begins.
        annotation = jax.profiler.StepTraceAnnotation('train', step_num=step)
        with annotation, self._compilations.watched(step + 1):
            yield

    def after(self, step, result):
        """To be called after the `step`-th call, with what it gives."""
        self._profile.after(step - 1, result)

    def __enter__(self):
        if self._port:
            jax.profiler.start_server(self._port)
        return self

    def __exit__(self, *exception):
        self._profile.stop()
        if self._port:
            jax.profiler.stop_server()
