"""Times your own video from file to files: python -m benchmarks.segment [--videos=854x480,...]

For each video size, working size and number of objects: the model alone on frames in memory, and
`vos_jax.commands.segment` with decoding, masks and overlay, turn by turn in one process, both
compiled before. `extra` is what all that is not the model adds to the time of a frame; the goal is
10 %.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import inputs, measuring
from vos_jax.data import masks
from vos_jax.errors import run_main
from vos_jax.inference.segmenter import Segmenter
from vos_jax.storage.names import parse_size
from vos_jax.video import scaling
from vos_jax.video.folder import Output
from vos_jax.video.given import GivenMasks
from vos_jax.video.propagate import Propagation, segment_video
from vos_jax.video.reader import Range, open_video
from vos_jax.video.writer import VideoWriter

COLUMNS = 'video work objects model_fps fps extra cpu_extra peak_mb memory'


def measure(weights, video_size, short_side, num_objects, num_frames, rounds):
    """One row: frames per second of the model and of the whole, for one video."""
    segmenter = Segmenter.from_pretrained(weights)
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(Path(folder), segmenter, video_size, short_side, num_objects, num_frames)
        task.run_model(4)
        task.run_whole('compiled', 4)
        measuring.forget_peak_memory()
        model, whole = [], []
        for index in range(rounds):
            runs = [
                (model, task.run_model, (num_frames,)),
                (whole, task.run_whole, (str(index), num_frames)),
            ]
            for samples, run, arguments in runs if index % 2 == 0 else runs[::-1]:
                samples.append(measuring.timed(run, *arguments)[1:])
        row = measuring.peak_memory()
    (model_s, model_cpu_s), (whole_s, whole_cpu_s) = (np.median(s, axis=0) for s in (model, whole))
    return row | {
        'video': f'{video_size[1]}x{video_size[0]}',
        'work': f'{task.size[1]}x{task.size[0]}',
        'objects': num_objects,
        'model_fps': num_frames / model_s,
        'fps': num_frames / whole_s,
        'extra': 100 * (whole_s / model_s - 1),
        'cpu_extra': 100 * (whole_cpu_s / model_cpu_s - 1),
        'machine': measuring.machine(),
    }


class _Task:
    """A made-up video as a file with its first mask, and the two ways through it."""

    def __init__(self, folder, segmenter, video_size, short_side, num_objects, num_frames):
        self._folder, self._segmenter, self._num_objects = folder, segmenter, num_objects
        frames, labels = inputs.make_video(video_size, num_frames, num_objects)
        with VideoWriter(folder / 'video.mp4', video_size, 25) as writer:
            for number, frame in enumerate(frames):
                writer.write(frame, number / 25)
        masks.write_labels(folder / 'first.png', labels)
        self._video = open_video(folder / 'video.mp4')
        self._given = GivenMasks({0: folder / 'first.png'}, video_size)
        self.size = scaling.working_size(video_size, short_side)
        self._small = [scaling.shrink_image(frame, self.size) for frame in frames]

    def run_model(self, num_frames):
        """What the loop of `segment_video` asks of the model; its labels are not enlarged."""
        task = Propagation(
            self._segmenter, self._given, self._video.size, self.size, self._num_objects
        )
        for number, image in enumerate(self._small[:num_frames]):
            task.advance(number, image)()

    def run_whole(self, name, num_frames):
        """From file to files."""
        segment_video(
            self._segmenter,
            self._video,
            self._given,
            Range(stop=num_frames),
            Output(self._folder / name, {'round': name}),
            working_size=self.size,
            ids=self._given.check(self.size),
        )


def main(argv):
    """Measures and prints; one row per combination."""
    del argv
    wanted = flags.FLAGS
    rows = []
    for video, size, objects in itertools.product(wanted.videos, wanted.sizes, wanted.objects):
        print(f'video {video}, --size={size}, objects: {objects}', flush=True)
        rows.append(
            measuring.in_own_process(
                measure,
                wanted.weights,
                parse_size(video),
                int(size),
                int(objects),
                wanted.frames,
                wanted.rounds,
            )
        )
    measuring.report('segment', rows, COLUMNS, wanted.out)


if __name__ == '__main__':
    flags.DEFINE_string('weights', 'giel_lite', 'Name or file of weights.')
    flags.DEFINE_list('videos', ['854x480'], 'Sizes of videos, WIDTHxHEIGHT.')
    flags.DEFINE_list('sizes', ['240', '480'], 'Shorter sides at which the model works.')
    flags.DEFINE_list('objects', ['1', '3'], 'Numbers of objects.')
    flags.DEFINE_integer('frames', 20, 'Frames of the video.', lower_bound=5)
    flags.DEFINE_integer('rounds', 3, 'Times that each is measured.', lower_bound=1)
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
