"""The training loop."""

from vos_jax.storage import disk
from vos_jax.storage.paths import path_of
from vos_jax.training.program import Program
from vos_jax.training.run import opened


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
    with opened(config, workdir, mirror, program) as (run, state):
        for step in range(run.start, config.training.steps):
            batch = run.next_batch()
            with run.watched(step):
                state, metrics = program.step(state, batch)  # the only line that computes
            due = run.record(step + 1, metrics)  # the metrics stay on the device until a log step
            if due.log:
                run.log.write(step + 1)
            if due.export:  # before the checkpoint of the same step
                run.export(step + 1, state)
            if due.checkpoint:
                run.save(step + 1, state)
            if due.stop:
                break
            if evaluate and due.evaluation:
                run.evaluate(step + 1, state, evaluate)
    run.exit_if_interrupted()
    return state
