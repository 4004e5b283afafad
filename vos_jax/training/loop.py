"""The training loop: what is opened before it, and what happens between two steps."""

import contextlib
import dataclasses
import functools
import signal
import sys
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from vos_jax import processes, recipe, weights
from vos_jax.errors import InputError
from vos_jax.inference.batch import make_lanes
from vos_jax.inference.segmenter import Segmenter
from vos_jax.processes import say
from vos_jax.storage import disk
from vos_jax.storage.paths import is_bucket, path_of
from vos_jax.training import health, initial_weights, sharding
from vos_jax.training.checkpoints import Checkpoints, restore_or_init
from vos_jax.training.log import RunLog
from vos_jax.training.metric_writer import MetricWriter, parameter_overview, read_metrics
from vos_jax.training.program import Program


def train(config, workdir, evaluate=None):
    """Trains the model of a config, or resumes where a run in `workdir` stopped.

    Batch i is a function of the seed and i, so a run that was killed resumes with the batches it
    would have seen, and on CPUs with the same numbers to the last bit. All processes of a run call
    this alike; the first one writes and prints.

    Args:
      config: the resolved config.
      workdir: folder of the run, local or gs://, the same for all processes.
      evaluate: as `evaluation.heldout.HeldOut`, with its arguments and results; called every
        `config.training.evaluate_every` steps and at the end (0: never); scores['jf'] ranks the
        checkpoints.

    Returns:
      The final TrainState.

    Raises:
      InputError: for wrong input. FloatingPointError: for a loss that is not finite.
    """
    with disk.writing_to(workdir, '--workdir') as mirror:
        mirror.fetch('metrics.jsonl')
        return _train(config, path_of(workdir), mirror, evaluate)


def _train(config, workdir, mirror, evaluate):
    program = Program(config)
    with contextlib.ExitStack() as stack:
        run = Run(config, workdir, mirror, program, stack)
        steps = range(run.start, config.training.steps)
        if evaluate and run.owes_evaluation() and not run.evaluate(run.start, evaluate):
            steps = ()
        for step in steps:
            batch = run.log.wait_for(run.batches)
            with run.watch.watched(step):
                run.state, metrics = program.step(run.state, batch)  # the only line that computes
            due = run.record(step + 1, metrics)  # the metrics stay on the device until a log step
            if due.log:
                run.log.write(step + 1)
            if due.export:  # before the checkpoint of the same step
                run.export(step + 1)
            if due.checkpoint:
                run.save(step + 1)
            if due.stop:
                break
            if evaluate and due.evaluation and not run.evaluate(step + 1, evaluate):
                break
    run.exit_if_interrupted()
    return run.state


def _held(workdir):
    """A context that keeps other runs out of a local folder."""
    if not processes.is_writer() or is_bucket(workdir):
        return contextlib.nullcontext()
    workdir.mkdir(parents=True, exist_ok=True)
    return disk.FolderLock(workdir, 'wait for the end of the run there, or name another --workdir')


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    export: bool
    checkpoint: bool
    evaluation: bool
    stop: bool


class Run:
    """A run under way, new or resumed.

    Attributes:
      state: TrainState.
      start, done: number of steps done before, and so far.
      batches, log, watch: what is open.
    """

    def __init__(self, config, workdir, mirror, program, stack):
        """
        Args:
          config: Config.
          workdir: path of its folder, for checkpoints.
          mirror: Mirror of it, for all else.
          program: Program.
          stack: ExitStack in which all is opened.

        Raises:
          InputError: for wrong input, before anything is computed.
        """
        self._config, self._mirror = config, mirror
        training, folder = config.training, mirror.folder
        batches = program.batches(0)  # finds wrong input before anything is written
        processes.check_same(batches.listing())
        # First, so that a signal is still noted while the last checkpoint is written.
        self._interruption = stack.enter_context(_Interruption())
        processes.check_shared(workdir)
        stack.enter_context(_held(workdir))
        keep = training.keep, training.keep_best, training.keep_every
        self._checkpoints = stack.enter_context(Checkpoints(workdir, *keep))
        if self._checkpoints.latest_step() is not None:
            typed = dataclasses.replace(config, model=program.config.model)
            for line in recipe.changes(typed, workdir):
                say(f'changed since the run began: {line}')
        warm_start = functools.partial(
            initial_weights.warm_start, path=config.init, encoders=program.model.encoders
        )
        self.state, self.start = restore_or_init(
            self._checkpoints, program.init, warm_start, program.in_state
        )
        self.done = self.start
        if self.start:
            batches.close()
            batches = program.batches(self.start)
        self.batches = batches
        stack.callback(batches.close)
        self._writer = None
        if processes.is_writer():
            recipe.save(config, folder)  # which has passed all checks
            self._writer = stack.enter_context(MetricWriter(folder, self.start))
        _announce(program, workdir, self.state, self.start)
        self.log = stack.enter_context(RunLog(config, folder, self._writer, program, self.start))
        self._interruption.listen()
        self.watch = stack.enter_context(health.Watch(config, folder, self.start))

    def record(self, step, metrics):
        """Takes the metrics of a step that has begun, the `step`-th; says what is due after it."""
        self.done = step
        self.watch.after(step, metrics)
        self.log.record(step, metrics)
        training = self._config.training
        stops = self._interruption.reached(step)  # asked once: a signal may come at any line
        is_last = stops or step == training.steps

        def is_due(every):
            return every > 0 and (is_last or step % every == 0)

        return Due(
            log=is_due(training.log_every),
            export=step in training.export_at,
            checkpoint=is_due(training.checkpoint_every) or is_due(training.keep_every),
            evaluation=is_due(training.evaluate_every),
            stop=stops and step < training.steps,  # else nothing but the evaluation is left
        )

    def owes_evaluation(self):
        """Whether the run was ended before the evaluation of the step that it resumes from."""
        training, step = self._config.training, self.start
        if not (step and training.evaluate_every):
            return False
        if step % training.evaluate_every and step != training.steps:
            return False
        lines = read_metrics(self._mirror.folder)
        is_done = any(line['step'] == step and 'evaluation/jf' in line for line in lines)
        return not processes.gathered(is_done)[0]  # which writes them

    def save(self, step):
        """Saves a checkpoint, unless the run has to stop for a step until here."""
        self.log.check()
        self._mirror.keep_up()  # the log is not behind the checkpoint
        self._checkpoints.save(step, self.state)

    def export(self, step):
        """Keeps the weights at the end of a stage, in WORKDIR/weights_STEP.npz."""
        variables = sharding.gathered(self.state.variables())
        if processes.is_writer():
            path = self._mirror.folder / f'weights_{step}.npz'
            weights.export_weights(path, variables, self._config, {'step': step})
            say(f'step {step}: weights in {path.name}')

    def evaluate(self, step, evaluate):
        """Scores the weights by `evaluate`, see `train`, and keeps them if they are good.

        Returns:
          Whether it was done. If not, a signal came: the run is to stop at this step, which is
          saved, so that it resumes with the evaluation.
        """
        variables = sharding.gathered(self.state.variables())
        lanes = make_lanes(
            Segmenter.from_config(self._config, variables, device=device)
            for device in jax.local_devices()
        )
        share = jax.process_index(), jax.process_count()

        def is_given_up():  # the last one has the run end as if no signal had come
            is_last = step >= self._config.training.steps
            return not is_last and self._interruption.is_near(step)

        found = evaluate(lanes, share, processes.gathered, is_given_up)
        if found is None:
            self._interruption.note()
            say(f'step {step}: a signal came before the held-out videos were scored')
            self.save(step)
            return False
        scores, images = found
        if self._writer:
            named = {f'evaluation/{name}': value for name, value in scores.items()}
            self._writer.write_scalars(step, named)
            self._writer.write_images(step, images)
            self._writer.flush()
        self._checkpoints.save_best(step, self.state.variables(), scores['jf'])
        parts = '  '.join(f'{name} {100 * value:.1f}' for name, value in scores.items())
        say(f'step {step}: held out (percent): {parts}')
        return True

    def exit_if_interrupted(self):
        """Ends the process as its signal asks where that came before the last step."""
        name = self._interruption.name
        if name and self.done < self._config.training.steps:
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

    def note(self):
        """Has the process end by the signal that another process was the one to get."""
        self.name = self.name or 'SIGTERM'

    def _receive(self, number, _):
        self.name = signal.Signals(number).name

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)


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
        remedy = sharding.remedy(
            config.mesh, jax.device_count(), config.data.batch_size, config.training.accumulate
        )
        say(f'{mesh.size} of {jax.device_count()} devices are used; {remedy} (docs/tpu_pods.md)')
    processes = f' in {jax.process_count()} processes' if jax.process_count() > 1 else ''
    say(
        f'{config.model.name} in {config.computes_in} on {jax.devices()[0].device_kind}, '
        f'{sharding.describe(mesh)}{processes}: '
        f'{"resuming from" if start else "from"} step {start} to {config.training.steps}, '
        f'{config.data.batch_size} clips of {config.data.clip_length} frames of '
        f'{config.data.crop[1]}x{config.data.crop[0]} a step (remat {config.training.remat}); '
        f'everything in {workdir}'
    )
