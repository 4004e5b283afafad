"""Segments your own video: python -m vos_jax.commands.segment VIDEO --masks=first.png --out=DIR

VIDEO is a video file or a folder of frames; --masks is the mask of its first frame, or a folder of
masks named as their frames (00012.png). The same command again goes on where a run was interrupted.
All flags: --help. More: docs/own_video.md.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from vos_jax import weights_choice
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation.output_files import explain_disk_errors, prepare_folder
from vos_jax.storage.progress import Progress
from vos_jax.video import scaling
from vos_jax.video.folder import Output
from vos_jax.video.given import find_masks
from vos_jax.video.propagate import segment_video
from vos_jax.video.reader import Range, open_video


def define_flags():
    # Not at the top: other commands have flags of the same names.
    flags.DEFINE_string('masks', None, 'PNG of object ids for the first frame, or a folder')
    flags.DEFINE_string('out', None, 'folder of the results')
    weights_choice.define_flags()
    flags.DEFINE_integer('size', 480, 'shorter side at which the model works; 0: that of the video')
    flags.DEFINE_integer('start', 0, 'first frame')
    flags.DEFINE_integer('stop', None, 'frame after the last')
    flags.DEFINE_integer('stride', 1, 'take each so-manieth frame')
    flags.DEFINE_float('fps', None, 'frames per second of a folder of frames; default 25')
    flags.DEFINE_bool('binary', False, 'in the masks 255 means the object')
    flags.DEFINE_bool('overlay', True, 'write overlay.mp4')
    flags.DEFINE_float('state_every', 15, 'seconds of work that a killed run may do again')
    flags.DEFINE_bool('overwrite', False, 'start anew what --out holds')


def main(argv):
    """Does what the flags say; what is wrong with the input is told before the model is loaded."""
    wanted = flags.FLAGS
    if len(argv) != 2:
        raise InputError('name one video: vos_jax.commands.segment VIDEO --masks=PNG --out=DIR')
    for name in ('masks', 'out'):
        if wanted[name].value is None:
            raise InputError(f'--{name} is missing; see docs/own_video.md')
    weights_choice.check_flags(wanted)
    try:
        with explain_disk_errors():
            _segment(argv[1], wanted)
    except KeyboardInterrupt:
        print(f'\nstopped; the same command goes on. Masks so far: {wanted.out}/masks')
        sys.exit(130)


def _segment(path, wanted):
    video = open_video(path, wanted.fps)
    chosen = Range(wanted.start, wanted.stop, wanted.stride)
    size = scaling.working_size(video.size, wanted.size)
    given = find_masks(wanted.masks, video, chosen, binary=wanted.binary)
    ids = given.check(size)
    num_frames = dataclasses.replace(chosen, start=given.first).count(video.num_frames)
    if num_frames == 0:
        raise InputError(
            f'{path}: about {video.num_frames} frames, none of them from frame {given.first} on; '
            'choose another --start, --stop or mask'
        )
    prepare_folder(Path(wanted.out).parent)
    segmenter, settings = weights_choice.open_segmenter(wanted)
    settings |= video.identity | dataclasses.asdict(chosen)
    settings |= {'masks': given.identity(), 'binary': wanted.binary}
    settings |= {'size': list(size), 'overlay': wanted.overlay}
    output = Output(wanted.out, settings, overwrite=wanted.overwrite)
    finished = output.read_summary()
    if finished and not finished['damage']:
        print(f'finished already: {wanted.out}')
        return
    about = weights_choice.describe_device()
    print(
        f'{path}: {video.size[1]}x{video.size[0]}, {num_frames or "unknown number of"} frames, '
        f'{len(ids)} objects, model at {size[1]}x{size[0]}; {about["device"]}'
    )
    progress = Progress('frames', num_frames)
    record = segment_video(
        segmenter,
        video,
        given,
        chosen,
        output,
        working_size=size,
        ids=ids,
        draw=wanted.overlay,
        state_every_s=wanted.state_every,
        on_frame=lambda name: progress.advance(f'frame {name}'),
    )
    if not record.names:
        raise InputError(record.damage)
    progress.close()
    output.write_summary(record.summary() | about | {'settings': settings})
    if record.damage:
        raise InputError(f'{record.damage}. The frames before are in {wanted.out}')
    output.clear_state()
    print(f'masks, overlay and summary: {wanted.out}')


if __name__ == '__main__':
    define_flags()
    run_main(main)
