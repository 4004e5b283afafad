"""One run of training: what is opened before its loop, and what happens between two steps."""

import contextlib
import dataclasses
import functools
import signal
import sys
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from vos_jax import recipe, weights
from vos_jax.config.schema import Config
from vos_jax.errors import InputError
from vos_jax.inference.batch import make_lanes
from vos_jax.inference.segmenter import Segmenter
from vos_jax.storage.mirror import Mirror
from vos_jax.training import health, initial_weights, processes, sharding
from vos_jax.training.checkpoints import Checkpoints, restore_or_init
from vos_jax.training.log import RunLog
from vos_jax.training.metric_writer import MetricWriter, NoWriter, parameter_overview
from vos_jax.training.processes import say
from vos_jax.training.program import GlobalBatches


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    export: bool
    checkpoint: bool
    evaluation: bool
    stop: bool


@contextlib.contextmanager
def opened(config, workdir, mirror, program):
    """Opens a run, new or resumed; gives it, and the state to train from.

    Args:
      config: Config.
      workdir: path of its folder, for checkpoints.
      mirror: Mirror of it, for all else.
      program: Program.

    Raises:
      InputError: for wrong input, before anything is computed.
    """
    training = config.training
    with contextlib.ExitStack() as stack:
        batches = program.batches(0)  # finds wrong input before anything is written
        # First, so that a signal is still noted while the last checkpoint is written.
        interruption = stack.enter_context(_Interruption())
        keep = training.keep, training.keep_best, training.keep_every
        checkpoints = stack.enter_context(Checkpoints(workdir, *keep))
        typed = dataclasses.replace(config, model=program.config.model)
        is_resumed = checkpoints.latest_step() is not None
        for line in recipe.changes(typed, workdir) if is_resumed else ():
            say(f'changed since the run began: {line}')
        warm_start = functools.partial(
            initial_weights.warm_start, path=config.init, encoders=program.model.encoders
        )
        state, start = restore_or_init(checkpoints, program.init, warm_start, program.in_state)
        if start:
            batches.close()
            batches = program.batches(start)
        stack.callback(batches.close)
        writer = stack.enter_context(_open_writer(config, mirror.folder, start))
        _announce(program, workdir, state, start)
        log = stack.enter_context(RunLog(config, mirror.folder, writer, program, start))
        log.count_flops()
        interruption.listen()
        watch = stack.enter_context(health.Watch(config, mirror.folder, start))
        yield (
            Run(config, mirror, start, checkpoints, batches, writer, log, watch, interruption),
            state,
        )


@dataclasses.dataclass
class Run:
    """A run under way.

    Attributes:
      mirror: where its files are written.
      start: number of steps done before.
      checkpoints, batches, writer, log, watch, interruption: what is open.
      done: number of steps done.
    """

    config: Config
    mirror: Mirror
    start: int
    checkpoints: Checkpoints
    batches: GlobalBatches
    writer: MetricWriter | NoWriter
    log: RunLog
    watch: health.Watch
    interruption: object
    done: int = dataclasses.field(init=False)

    def __post_init__(self):
        self.done = self.start

    def next_batch(self):
        """The batch of the next step, on the devices."""
        return self.log.wait_for(self.batches)

    def watched(self, step):
        """Context of the call of a step, with its number from 0."""
        return self.watch.watched(step)

    def record(self, step, metrics):
        """Takes the metrics of a step that has begun, the `step`-th; says what is due after it."""
        self.done = step
        self.watch.after(step, metrics)
        self.log.record(step, metrics)
        return self._due(step)

    def _due(self, step):
        training = self.config.training
        stops = self.interruption.reached(step)  # asked once: a signal may come at any line
        is_last = stops or step == training.steps

        def is_due(every):
            return every > 0 and (is_last or step % every == 0)

        return Due(
            log=is_due(training.log_every),
            export=step in training.export_at,
            checkpoint=is_due(training.checkpoint_every) or is_due(training.keep_every),
            evaluation=is_due(training.evaluate_every),
            stop=stops,
        )

    def save(self, step, state):
        """Saves a checkpoint, unless the run has to stop for a step until here."""
        self.log.check()
        self.mirror.keep_up()  # the log is not behind the checkpoint
        self.checkpoints.save(step, state)

    def export(self, step, state):
        """Keeps the weights at the end of a stage, in WORKDIR/weights_STEP.npz."""
        variables = sharding.gathered(state.variables())
        if processes.is_writer():
            path = self.mirror.folder / f'weights_{step}.npz'
            weights.export_weights(path, variables, self.config, {'step': step})
            say(f'step {step}: weights in {path.name}')

    def evaluate(self, step, state, evaluate):
        """Scores the weights by `evaluate`, see `loop.train`, and keeps them if they are good."""
        variables = sharding.gathered(state.variables())
        lanes = make_lanes(
            Segmenter.from_config(self.config, variables, device=device)
            for device in jax.local_devices()
        )
        share = jax.process_index(), jax.process_count()
        found = evaluate(lanes, share, processes.gathered, lambda: self._is_given_up(step))
        if found is None:
            say(f'step {step}: a signal came before the held-out videos were scored')
            return
        scores, images = found
        named = {f'evaluation/{name}': value for name, value in scores.items()}
        self.writer.write_scalars(step, named)
        self.writer.write_images(step, images)
        self.writer.flush()
        self.checkpoints.save_best(step, state.variables(), scores['jf'])
        parts = '  '.join(f'{name} {100 * value:.1f}' for name, value in scores.items())
        say(f'step {step}: held out (percent): {parts}')

    def _is_given_up(self, step):
        """Whether a signal is waiting for the end of an evaluation that comes again."""
        return step < self.config.training.steps and self.interruption.is_near(step)

    def exit_if_interrupted(self):
        """Ends the process as its signal asks where that came before the last step."""
        name = self.interruption.name
        if name and self.done < self.config.training.steps:
            say(f'stopped by {name} at step {self.done}; the same command resumes from there')
            sys.exit(128 + signal.Signals[name])


class _Interruption:
    """Notes SIGTERM or SIGINT from `listen` on, so that a checkpoint is written before the end.

    With several processes JAX notes SIGTERM, in whichever of them it arrives, and has them agree on
    the step after which all stop.
    """

    def __init__(self):
        self.name = ''
        self._before = {}

    def listen(self):
        """Begins; what comes before the first step may be interrupted as any program."""
        numbers = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
        self._before = {number: signal.signal(number, self._receive) for number in numbers}

    def reached(self, step):
        """Whether the run stops after this step; to be asked in every step by all processes."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.name = 'SIGTERM'
        return bool(self.name)

    def is_near(self, step):
        """Whether the run stops after the next step; to be asked in no order between the two.

        JAX agrees on the step after the last that any process has asked for. So the next one is
        asked for, and then this one again: what is agreed on later is asked for in time by all.
        """
        is_near = self.reached(step + 1)
        return self.reached(step) or is_near

    def _receive(self, number, _):
        self.name = signal.Signals(number).name

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _open_writer(config, workdir, start):
    """Stores the config, which has passed all checks, and opens the writer of metrics."""
    if not processes.is_writer():
        return NoWriter()
    recipe.save(config, workdir)
    return MetricWriter(workdir, start)


def _announce(program, workdir, state, start):
    config, mesh = program.config, program.mesh
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
            'more need a larger data.batch_size, or mesh.data=-1 (docs/tpu_pods.md)'
        )
    processes = f' in {jax.process_count()} processes' if jax.process_count() > 1 else ''
    say(
        f'{config.model.name} in {config.computes_in} on {jax.devices()[0].device_kind}, '
        f'{sharding.describe(mesh)}{processes}: '
        f'{"resuming from" if start else "from"} step {start} to {config.training.steps}, '
        f'{config.data.batch_size} clips of {config.data.clip_length} frames of '
        f'{config.data.crop[1]}x{config.data.crop[0]} a step (remat {config.training.remat}); '
        f'everything in {workdir}'
    )
