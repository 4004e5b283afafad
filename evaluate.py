"""Segments and scores videos, scores masks of any program, compares runs.

  python evaluate.py --weights=FILE --protocol=davis2017 --data=ROOT
  python evaluate.py --workdir=RUN --protocol=davis2017 --data=ROOT [--step=N | --last=N]
  python evaluate.py --results=MASKS --protocol=davis2017 --data=ROOT
  python evaluate.py --compare=A,B

All flags: python evaluate.py --help. Protocols and forms of masks: docs/evaluation.md.
"""

import functools

from absl import flags

from vos_jax.commands import evaluate
from vos_jax.errors import run_main

flags.adopt_module_key_flags(evaluate)  # so that --help lists them


def open_run(workdir):
    """The stored config of a training run, its steps, and a function that reads one of them."""
    # Here and not above: scoring masks loads neither jax nor flax.
    from vos_jax.config import recipe
    from vos_jax.training import checkpoints

    stored = recipe.stored(workdir)
    read = functools.partial(checkpoints.read_variables, workdir)
    return stored, checkpoints.list_steps(workdir), read


if __name__ == '__main__':
    run_main(functools.partial(evaluate.main, open_run=open_run))
