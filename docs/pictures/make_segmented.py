"""Makes the pictures with masks: PYTHONPATH=. python docs/pictures/make_segmented.py [--data=...]

Those of the README and of docs/own_video.md. The data are those of vos_jax/pretrained/README.md.
--only=NAME makes one of them; studio.jpg is made by docs/pictures/make_studio.py.
"""

from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from vos_jax.data import frames, masks
from vos_jax.data.overlay import overlay, side_by_side
from vos_jax.data.roots import data_folder
from vos_jax.errors import run_main
from vos_jax.inference.segmenter import Segmenter

# File: rows of set, resolution, sequence, frames that are shown. The first has the given mask.
PICTURES = {
    'giel_lite': [
        ('davis_multi_240p', '240p', 'horsejump-high', (0, 9, 22)),
        ('davis_multi_240p', '240p', 'mix-goat-dance-libby', (0, 9, 18)),
    ],
    'own_video': [('davis_480p_mini', '480p', 'horsejump-high', (0, 6, 11))],
    'fails_parts': [('davis_240p', '240p', 'dance-twirl', (0, 16, 21))],
    'fails_thin': [('davis_multi_240p', '240p', 'paragliding-launch', (0, 12, 30))],
    'fails_occlusion': [('davis_240p', '240p', 'libby', (0, 16, 23))],
}
WITH_MASKS = ('giel_lite',)  # with the masks alone below each row


def draw(segmenter, data, name, resolution, sequence, shown):
    """Overlays of the frames that are shown, in a row, and their masks: two u8 images."""
    root = data / name
    images = sorted((root / 'JPEGImages' / resolution / sequence).glob('*.jpg'))
    first = masks.read_labels(root / 'Annotations' / resolution / sequence / '00000.png')
    video = [frames.read_frame(path) for path in images[: max(shown) + 1]]
    found = list(segmenter.segment(video, first))
    drawn = [overlay(video[number], found[number]) for number in shown]
    alone = [overlay(np.zeros_like(video[0]), found[number], 1.0) for number in shown]
    return side_by_side(drawn), side_by_side(alone)


def main(argv):
    """Makes the pictures that were asked for."""
    del argv
    wanted = flags.FLAGS
    segmenter = Segmenter.from_pretrained(wanted.weights)
    for name, rows in PICTURES.items():
        if wanted.only and name not in wanted.only:
            continue
        pairs = [draw(segmenter, Path(wanted.data), *row) for row in rows]
        drawn = [image for pair in pairs for image in pair[: 1 + (name in WITH_MASKS)]]
        image = Image.fromarray(np.concatenate(drawn))
        image.thumbnail((1284, 760))
        path = Path(wanted.out) / f'{name}.jpg'
        image.save(path, quality=82, optimize=True)
        print(f'{path}: {path.stat().st_size // 1024} KB', flush=True)


if __name__ == '__main__':
    flags.DEFINE_string('data', str(data_folder()), 'Folder of the data sets.')
    flags.DEFINE_string('weights', 'giel_lite', 'Name or file of weights.')
    flags.DEFINE_list('only', [], 'Names of pictures; all without it.')
    flags.DEFINE_string('out', 'docs/pictures', 'Where they are written.')
    run_main(main)
