"""Segments a folder of frames: python examples/segment_folder.py FRAMES FIRST.png OUT"""

import sys

from vos_jax import Segmenter
from vos_jax.data.masks import read_labels, write_labels
from vos_jax.video.reader import open_video

frames, first, out = sys.argv[1:]
segmenter = Segmenter.from_pretrained('giel_lite')
video = open_video(frames)
images = (frame.image for frame in video.read())
for number, labels in enumerate(segmenter.segment(images, read_labels(first, video.size))):
    write_labels(f'{out}/{video.name_of(number)}.png', labels)
