"""Segments frames in a NumPy file: python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy

FRAMES.npy is u8[T, H, W, 3], FIRST.npy the u8[H, W] object ids of the first frame; LABELS.npy
becomes the u8[T, H, W] ids of all frames.
"""

import sys
from pathlib import Path

import numpy as np

from .loader import Exported


def main(arguments):
    """Reads, segments, writes."""
    if len(arguments) != 3:
        raise ValueError(__doc__.splitlines()[0])
    frames, first = (np.load(path, mmap_mode='r') for path in arguments[:2])
    segmenter = Exported(Path(__file__).resolve().parents[1])
    labels = [segmenter.start(frames[0], first)]
    labels += [segmenter.step(frame) for frame in frames[1:]]
    np.save(arguments[2], np.stack(labels))
    print(f'{len(labels)} frames, objects {", ".join(map(str, segmenter.ids))}: {arguments[2]}')


if __name__ == '__main__':
    try:
        main(sys.argv[1:])
    except Exception as error:  # a damaged file of jax.export raises nearly anything
        print(
            f'error: {type(error).__name__}: {" ".join(str(error).split())[:300]}', file=sys.stderr
        )
        sys.exit(2)
