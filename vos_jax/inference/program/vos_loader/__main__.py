"""Segments frames in a NumPy file: python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy

FRAMES.npy is u8[T, H, W, 3], FIRST.npy the u8[H, W] object ids of the first frame; LABELS.npy
becomes the u8[T, H, W] ids of all frames.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np


def main(arguments):
    """Reads, segments, writes; what is wrong with the files is reported before jax is loaded."""
    if len(arguments) != 3:
        raise ValueError('needed: python -m vos_loader FRAMES.npy FIRST.npy LABELS.npy')
    folder = Path(__file__).resolve().parents[1]
    from .about import read_about

    read_about(folder)
    frames, first = map(_load, arguments[:2])
    with _replacing(Path(arguments[2])) as file:
        from .loader import Exported

        segmenter = Exported(folder)
        labels = [segmenter.start(frames[0], first)]
        labels += [segmenter.step(frame) for frame in frames[1:]]
        np.save(file, np.stack(labels))
    print(f'{len(labels)} frames, objects {", ".join(map(str, segmenter.ids))}: {arguments[2]}')


def _load(path):
    try:
        return np.load(path, mmap_mode='r')
    except ValueError as error:
        raise ValueError(f'{path}: not a whole .npy file ({error})') from error


@contextlib.contextmanager
def _replacing(path):
    """A file that takes the place of `path` in the end; that it can be written is found at once."""
    if path.is_dir():
        raise ValueError(f'{path}: a folder; name a file')
    part = path.with_name(f'.{path.name[:50]}.part')
    try:
        with part.open('wb') as file:
            file.write(bytes(1))
            file.flush()
            file.seek(0)
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


if __name__ == '__main__':
    try:
        main(sys.argv[1:])
    except Exception as error:  # a damaged file of jax.export raises nearly anything
        print(
            f'error: {type(error).__name__}: {" ".join(str(error).split())[:300]}', file=sys.stderr
        )
        sys.exit(2)
