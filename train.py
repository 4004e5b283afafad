"""Trains a model: python train.py --config=configs/giel_small.py --workdir=runs/a

All flags: --help. The same as `vos-train`.
"""

from vos_jax.commands.train import run

if __name__ == '__main__':
    run()
