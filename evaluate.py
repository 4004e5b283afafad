"""Segments and scores videos, scores masks of any program, compares runs.

  python evaluate.py --weights=FILE --protocol=davis2017 --data=ROOT
  python evaluate.py --workdir=RUN --protocol=davis2017 --data=ROOT [--step=N | --last=N]
  python evaluate.py --results=MASKS --protocol=davis2017 --data=ROOT
  python evaluate.py --compare=A,B

All flags: python evaluate.py --help. Protocols and forms of masks: docs/evaluation.md.
"""

from vos_jax.errors import run_main
from vos_jax.evaluation import command

if __name__ == '__main__':
    run_main(command.main)
