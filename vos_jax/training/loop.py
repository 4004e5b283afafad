"""The training loop: data, step, log, checkpoints."""

import contextlib
import functools
import signal
import sys
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from vos_jax import weights
from vos_jax.config import recipe as configs
from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter
from vos_jax.storage import disk
from vos_jax.training import health, initial_weights, processes, sharding
from vos_jax.training.checkpoints import Checkpoints, restore_or_init
from vos_jax.training.log import RunLog
from vos_jax.training.metric_writer import MetricWriter, NoWriter, parameter_overview
from vos_jax.training.processes import say
from vos_jax.training.program import Program


def train(config, workdir, evaluate=None):
    """Trains the model of a config, or goes on where a run in `workdir` stopped.

    Batch i is a function of the seed and i, so a run that was killed goes on with the batches it
    would have seen, and on CPUs with the same numbers to the last bit. All processes of a run call
    this alike; the first one writes and prints.

    Args:
      config: the resolved config.
      workdir: folder of the run, the same for all processes.
      evaluate: function Segmenter -> (scores, images), called every
        `config.training.evaluate_every` steps and at the end (0: never); scores['jf'] ranks the
        checkpoints.

    Returns:
      The final TrainState.

    Raises:
      InputError: for wrong input. FloatingPointError: for a loss that is not finite.
    """
    if '://' in str(workdir):
        raise InputError(
            f'--workdir is {workdir}: mount the bucket and give the folder (docs/tpu_pods.md)'
        )
    workdir, training = Path(workdir), config.training
    disk.prepare_folder(workdir, '--workdir')
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk.explain_disk_errors(workdir, '--workdir'))
        program = Program(config)
        checkpoints = stack.enter_context(Checkpoints(workdir, training.keep, training.keep_best))
        resuming = checkpoints.latest_step() is not None
        for line in configs.record(config, workdir, resuming, write=processes.is_writer()):
            say(f'changed since the run began: {line}')
        batches = program.batches(0)  # finds wrong input at once
        warm_start = functools.partial(initial_weights.warm_start, path=config.init)
        state, start = restore_or_init(checkpoints, program.init, warm_start, program.in_state)
        if start:
            batches.close()
            batches = program.batches(start)
        stack.callback(batches.close)
        writer = MetricWriter(workdir, start) if processes.is_writer() else NoWriter()
        writer = stack.enter_context(writer)
        _announce(config, workdir, state, start, program.mesh)
        log = stack.enter_context(RunLog(config, workdir, writer, program, start))
        log.count_flops()
        interruption = stack.enter_context(_Interruption())
        profile = health.Profile(workdir, config.profile, start, training.steps)
        stack.callback(profile.stop)
        compilations = stack.enter_context(health.Compilations(training.recompilation))
        done = start
        for step in range(start, training.steps):
            batch = log.wait_for(batches)
            profile.before(step)
            with compilations.watched(step + 1):
                state, metrics = program.step(state, batch)  # the only line that computes
            profile.after(step, metrics)
            done = step + 1
            log.record(done, metrics)  # stays on the device until a log step
            stopping = interruption.reached(done)  # asked once: a signal may come at any line
            last = done == training.steps or stopping
            if last or done % training.log_every == 0:
                log.write(done)
            _export_stage(config, workdir, state, done)  # before the checkpoint of the same step
            if last or done % training.checkpoint_every == 0:
                log.check()
                checkpoints.save(done, state)
            if stopping:
                break
            if evaluate and _is_due(done, training.evaluate_every, last):
                _evaluate(evaluate, config, state, done, checkpoints, writer)
    if interruption.name and done < training.steps:
        say(f'stopped by {interruption.name} at step {done}; the same command goes on from there')
        sys.exit(128 + signal.Signals[interruption.name])
    return state


def _is_due(step, every, last):
    """Whether something that happens every so many steps, and at the end, does; 0: never."""
    return every > 0 and (last or step % every == 0)


def _export_stage(config, workdir, state, step):
    """Keeps the weights at the end of a stage."""
    if step not in config.training.export_at:
        return
    variables = _local(state.variables())
    if processes.is_writer():
        path = workdir / f'weights_{step}.npz'
        weights.export_weights(path, variables, config, {'step': step})
        say(f'step {step}: weights in {path}')


def _evaluate(evaluate, config, state, step, checkpoints, writer):
    # Every process segments everything: while one did it alone, the others would wait as long.
    variables = _local(state.variables())
    scores, images = evaluate(Segmenter.from_config(config, variables).sibling(lazy=True))
    writer.write_scalars(step, {f'evaluation/{name}': value for name, value in scores.items()})
    writer.write_images(step, images)
    writer.flush()
    checkpoints.save_best(step, state.variables(), scores['jf'])
    parts = '  '.join(f'{name} {100 * value:.1f}' for name, value in scores.items())
    say(f'step {step}: held out (percent): {parts}')


def _local(tree):
    """Arrays that may be spread over processes, each whole on the first device of this one."""
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    gathered = jax.jit(lambda x: x, out_shardings=whole)(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), gathered)


class _Interruption:
    """Notes SIGTERM or SIGINT, so that a checkpoint is written before the end.

    With several processes JAX notes SIGTERM, in whichever of them it arrives, and has them agree on
    the step after which all stop.
    """

    def __init__(self):
        self.name = ''

    def reached(self, step):
        """Whether the run stops after this step; to be asked in every step by all processes."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.name = 'SIGTERM'
        return bool(self.name)

    def _receive(self, number, _):
        self.name = signal.Signals(number).name

    def __enter__(self):
        numbers = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _announce(config, workdir, state, start, mesh):
    if start > config.training.steps:
        raise InputError(
            f'{workdir}: trained for {start} steps, config.training.steps is '
            f'{config.training.steps}; raise it to train on'
        )
    if not start:
        say(parameter_overview(state.params))
    if mesh.size < jax.device_count():
        say(
            f'{mesh.size} of {jax.device_count()} devices are used; '
            f'--config.mesh.data={jax.device_count()} uses all (docs/tpu_pods.md)'
        )
    processes = f' in {jax.process_count()} processes' if jax.process_count() > 1 else ''
    say(
        f'{config.model.name} on {jax.devices()[0].device_kind}, {sharding.describe(mesh)}'
        f'{processes}: '
        f'{"going on from" if start else "from"} step {start} to {config.training.steps}, '
        f'{config.data.batch_size} clips of {config.data.clip_length} frames of '
        f'{config.data.crop[1]}x{config.data.crop[0]} a step; everything in {workdir}'
    )
