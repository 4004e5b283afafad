"""Runs an exported program, with jax and NumPy alone.

vos-export --size=854x480 --out=PROGRAM
python examples/exported.py PROGRAM FRAMES.npy FIRST.npy LABELS.npy
"""

import sys

import numpy as np

program, frames, first, out = sys.argv[1:]
sys.path.insert(0, program)  # holds vos_loader too
from vos_loader import Exported  # noqa: E402

frames = np.load(frames)  # u8[T, H, W, 3]
segmenter = Exported(program)
labels = [segmenter.start(frames[0], np.load(first))]
labels += [segmenter.step(frame) for frame in frames[1:]]
np.save(out, labels)  # u8[T, H, W] ids
