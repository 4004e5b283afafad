"""The training loop: data, step, log, checkpoints."""

import contextlib
import functools
import math
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vos_jax import config as configs
from vos_jax.data.pipeline import make_batches
from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import registry
from vos_jax.training import init as initial_weights
from vos_jax.training import step as steps
from vos_jax.training.checkpoints import Checkpoints, restore_or_init
from vos_jax.training.metrics import MetricWriter, Progress, parameter_overview


def train(config, workdir, evaluate=None):
    """Trains the model of a config, or goes on where a run in `workdir` stopped.

    Batch i is a function of the seed and i, so a run that was killed goes on with the batches it
    would have seen, and on CPUs with the same numbers to the last bit.

    Args:
      config: the resolved config.
      workdir: folder of the run.
      evaluate: function Segmenter -> (scores, images), called every
        `config.training.evaluate_every` steps and at the end; scores['jf'] ranks the checkpoints.

    Returns:
      The final TrainState.

    Raises:
      InputError: for wrong input. FloatingPointError: for a loss that is not finite.
    """
    workdir, training = Path(workdir), config.training
    model = registry.build(config.model)
    optimizer, rate = steps.make_optimizer(config.optimizer, training.steps)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, keep=training.keep))
        resuming = checkpoints.latest_step() is not None
        for line in configs.record(config, workdir, resuming):
            print(f'changed since the run began: {line}')
        batches = make_batches(config.data, seed=config.seed)  # finds wrong input at once
        shapes = _shapes(config.data)
        init = jax.jit(
            lambda: steps.init_state(
                model, optimizer, shapes, jax.random.key(config.seed), training.ema_decay > 0
            )
        )
        warm_start = functools.partial(initial_weights.warm_start, path=config.init)
        state, start = restore_or_init(checkpoints, init, warm_start)
        if start:
            batches.close()
            batches = make_batches(config.data, seed=config.seed, start_step=start)
        stack.callback(batches.close)
        writer = stack.enter_context(MetricWriter(workdir, start))
        log = _Log(writer, Progress(training.steps, start), rate, start)
        _announce(config, workdir, state, start)
        train_step = jax.jit(steps.make_train_step(model, optimizer, config), donate_argnums=0)
        interrupted, done = stack.enter_context(_interruption()), start
        for step, batch in zip(range(start, training.steps), batches):
            state, metrics = train_step(state, batch)  # the only line that computes
            done = step + 1
            log.record(metrics)  # stays on the device until a log step
            stopping = bool(interrupted)  # asked once: a signal may come at any line
            last = done == training.steps or stopping
            if last or done % training.log_every == 0:
                log.write(done)
            if last or done % training.checkpoint_every == 0:
                log.check()
                checkpoints.save(done, state)
            if stopping:
                break
            if evaluate and (last or done % training.evaluate_every == 0):
                _evaluate(evaluate, config, state, done, checkpoints, writer)
    if interrupted and done < training.steps:
        print(
            f'stopped by {interrupted[0].name} at step {done}; the same command goes on from there'
        )
        sys.exit(128 + interrupted[0])
    return state


def _evaluate(evaluate, config, state, step, checkpoints, writer):
    variables = state.variables()
    scores, images = evaluate(Segmenter.from_config(config, variables))
    writer.write_scalars(step, {f'evaluation/{name}': value for name, value in scores.items()})
    writer.write_images(step, images)
    writer.flush()
    checkpoints.save_best(step, variables, scores['jf'])
    parts = '  '.join(f'{name} {100 * value:.1f}' for name, value in scores.items())
    print(f'step {step}: held out (percent): {parts}', flush=True)


class _Log:
    """Keeps metrics on the device and writes their means at log steps."""

    def __init__(self, writer, progress, rate, start):
        self._writer, self._progress, self._rate = writer, progress, rate
        self._pending, self._written = [], start

    def record(self, metrics):
        self._pending.append(metrics)

    def check(self):
        """Raises FloatingPointError if a loss since the last call was not finite."""
        self._fetch()

    def write(self, step):
        """Writes the means since the last log step and prints one line."""
        means = {k: float(np.mean([m[k] for m in self._fetch()])) for k in self._pending[0]}
        self._writer.write_scalars(step, {**means, 'learning_rate': self._rate(step - 1)})
        print(self._progress.line(step, {**means, 'lr': self._rate(step - 1)}), flush=True)
        self._pending, self._written = [], step

    def _fetch(self):
        self._pending = jax.device_get(self._pending)
        bad = [i for i, m in enumerate(self._pending) if not math.isfinite(m['loss'])]
        if bad:
            step = self._written + bad[0] + 1
            raise FloatingPointError(
                f'the loss of step {step} is not finite; no checkpoint was written since. Start '
                'again with a lower optimizer.learning_rate or optimizer.clip_norm'
            )
        return self._pending


@contextlib.contextmanager
def _interruption():
    """A list that receives SIGTERM or SIGINT, so that a checkpoint is written before the end."""
    received = []

    def receive(number, _):
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shapes(data):
    batch, length = data.batch_size, data.clip_length
    frames = (batch, length, *data.crop)
    return {
        'frames': jax.ShapeDtypeStruct((*frames, 3), jnp.uint8),
        'labels': jax.ShapeDtypeStruct(frames, jnp.uint8),
        'objects': jax.ShapeDtypeStruct((batch, data.num_slots), bool),
    }


def _announce(config, workdir, state, start):
    if start > config.training.steps:
        raise InputError(
            f'{workdir}: trained for {start} steps, config.training.steps is '
            f'{config.training.steps}; raise it to train on'
        )
    if not start:
        print(parameter_overview(state.params))
    device = jax.devices()[0]
    print(
        f'{config.model.name} on {jax.device_count()} x {device.device_kind}: '
        f'{"going on from" if start else "from"} step {start} to {config.training.steps}, '
        f'{config.data.batch_size} clips of {config.data.clip_length} frames of '
        f'{config.data.crop[1]}x{config.data.crop[0]} a step; everything in {workdir}',
        flush=True,
    )
