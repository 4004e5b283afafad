"""Segments several videos at once: python examples/segment_batch.py OUT VIDEO...

VIDEO is a folder of frames; the masks of its first frame are VIDEO.png.
"""

import sys

from vos_jax import Segmenter
from vos_jax.data.masks import read_labels, write_labels
from vos_jax.inference.batch import segment_videos
from vos_jax.video.reader import open_video

out, *names = sys.argv[1:]
videos = [open_video(name) for name in names]
items = [
    ((frame.image for frame in video.read()), read_labels(f'{name}.png', video.size))
    for name, video in zip(names, videos)
]
for index, number, labels in segment_videos(Segmenter.from_pretrained('giel_lite'), items):
    write_labels(f'{out}/{index}/{videos[index].name_of(number)}.png', labels)
