"""Draws a data set in the DAVIS layout: python -m vos_jax.commands.made_up --out=DIR

No download, no licence, the same for the same seed.
"""

import functools

from absl import flags as absl_flags

from vos_jax.commands import flags
from vos_jax.errors import run_main


def define_flags():
    absl_flags.DEFINE_string('out', None, 'folder of the data set')
    absl_flags.DEFINE_integer('num_train', 60, 'training sequences', lower_bound=1)
    absl_flags.DEFINE_integer('num_val', 8, 'validation sequences', lower_bound=1)
    absl_flags.DEFINE_integer('frames', 24, 'frames of each sequence', lower_bound=3)
    absl_flags.DEFINE_string('size', '428x240', 'size of the frames, WIDTHxHEIGHT')
    absl_flags.DEFINE_integer('max_objects', 3, 'objects of a sequence, up to', 1, 9)
    absl_flags.DEFINE_integer('seed', 0, 'of all that is drawn', lower_bound=0)


def main(argv):
    from vos_jax.data import scenes
    from vos_jax.storage import disk
    from vos_jax.storage.names import parse_size

    wanted = absl_flags.FLAGS
    flags.refuse_arguments(argv)
    flags.require(wanted, ('out',), 'docs/data.md')
    size = parse_size(wanted.size)
    with disk.writing_to(wanted.out, known_by=scenes.RECORD) as mirror:
        print(
            f'writing {wanted.num_train} + {wanted.num_val} sequences of {wanted.frames} frames, '
            f'{wanted.size}, to {wanted.out}'
        )
        scenes.write_dataset(
            mirror.folder,
            num_train=wanted.num_train,
            num_val=wanted.num_val,
            frames=wanted.frames,
            size=size,
            seed=wanted.seed,
            max_objects=wanted.max_objects,
            report=lambda line: print(line, flush=True),
        )
    print(f'data set in {wanted.out}')


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
