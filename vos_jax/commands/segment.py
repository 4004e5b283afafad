"""Segments your own video: vos-segment VIDEO --masks=first.png --out=DIR

VIDEO is a video file or a folder of frames; --masks is the mask of its first frame, or a folder of
masks named as their frames (00012.png). The same command again resumes where a run stopped.
More: docs/own_video.md.
"""

import dataclasses
import functools
import itertools
import sys

from absl import flags as absl_flags

from vos_jax import malloc
from vos_jax.commands import flags
from vos_jax.config import plain
from vos_jax.errors import InputError, run_main
from vos_jax.storage.disk import explain_disk_errors, prepare_folder
from vos_jax.storage.mirror import Mirror
from vos_jax.storage.progress import Progress
from vos_jax.video import ffmpeg, scaling
from vos_jax.video.folder import Output
from vos_jax.video.given import find_masks
from vos_jax.video.propagate import segment_video
from vos_jax.video.reader import Range, open_video


def define_flags():
    flags.define_model()
    absl_flags.DEFINE_string('out', None, 'folder of the results')
    absl_flags.DEFINE_string('masks', None, 'PNG of object ids for the first frame, or a folder')
    flags.define_short_side(480)
    absl_flags.DEFINE_integer('start', 0, 'first frame')
    absl_flags.DEFINE_integer('stop', None, 'frame after the last')
    absl_flags.DEFINE_integer('stride', 1, 'take every Nth frame')
    absl_flags.DEFINE_float('fps', None, 'frames per second of a folder of frames; default 25')
    absl_flags.DEFINE_bool('binary', False, 'in the masks 255 means the object')
    absl_flags.DEFINE_bool('overlay', True, 'write overlay.mp4')
    flags.define_number('state_every', 15, 'seconds of work that a killed run may do again', 0)
    absl_flags.DEFINE_bool('overwrite', False, 'start again what is finished in --out')


def main(argv):
    """Does what the flags say; wrong input is reported before the model is loaded."""
    wanted = absl_flags.FLAGS
    if len(argv) != 2:
        raise InputError('name one video: vos-segment VIDEO --masks=PNG --out=DIR')
    flags.require(wanted, ('masks', 'out'), 'docs/own_video.md')
    flags.check_model(wanted)
    malloc.restart_with_huge_pages()
    try:
        with explain_disk_errors(wanted.out), Mirror(wanted.out, 'run.json') as mirror:
            _segment(argv[1], wanted, mirror.folder)
    except KeyboardInterrupt:
        print(f'\nstopped; the same command resumes. Masks so far: {wanted.out}/masks')
        sys.exit(130)


def _segment(path, wanted, folder):
    if wanted.overlay:
        ffmpeg.require('or take --nooverlay')
    video = open_video(path, wanted.fps)
    chosen = Range(wanted.start, wanted.stop, wanted.stride)
    size = scaling.working_size(video.size, wanted.short_side)
    given = find_masks(wanted.masks, video, chosen, binary=wanted.binary)
    ids = given.check(size)
    num_frames = dataclasses.replace(chosen, start=given.first).count(video.num_frames)
    if num_frames == 0:
        raise InputError(
            f'{path}: about {video.num_frames} frames, none of them from frame {given.first} on; '
            'choose another --start, --stop or mask'
        )
    prepare_folder(folder)
    model = flags.open_model(wanted)
    settings = {**model.about, 'weights_crc32': model.fingerprint}
    settings |= {'inference': plain.to_plain(model.config.inference)}
    settings |= video.identity | dataclasses.asdict(chosen)
    settings |= {'masks': given.identity(), 'binary': wanted.binary}
    settings |= {'size': list(size), 'overlay': wanted.overlay}
    output = Output(folder, settings, overwrite=wanted.overwrite)
    finished = output.read_summary()
    if finished and not finished['damage']:
        print(f'finished already: {wanted.out}')
        return
    # Here: jax takes its time, and what is wrong with the input is reported before.
    from vos_jax import compilation

    about = compilation.describe_device()
    model = model.on()
    about['precision'] = model.config.computes_in
    print(
        f'{path}: {video.size[1]}x{video.size[0]}, {num_frames or "unknown number of"} frames, '
        f'{len(ids)} objects, model at {size[1]}x{size[0]}, in {about["precision"]}; '
        f'{about["device"]}'
    )
    progress = Progress('frames', num_frames)
    done = itertools.count(1)  # `reach` leaves the first frame, with its compilation, out of FPS
    record = segment_video(
        model.segmenter(),
        video,
        given,
        chosen,
        output,
        working_size=size,
        ids=ids,
        draw=wanted.overlay,
        state_every_s=wanted.state_every,
        on_frame=lambda name: progress.reach(next(done), note=f'frame {name}'),
    )
    if not record.names:
        raise InputError(record.damage)
    progress.close()
    output.write_summary(record.summary() | about | {'settings': settings})
    if record.damage:
        raise InputError(f'{record.damage}. The frames before are in {wanted.out}')
    output.clear_state()
    print(f'masks, overlay and summary: {wanted.out}')


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
