"""Segments and scores videos, scores masks of any program, compares runs.

All flags and examples: --help, docs/evaluation.md. The same as `vos-evaluate`.
"""

from vos_jax.commands.evaluate import run

if __name__ == '__main__':
    run()
