"""COCO's instances: masks out of polygons and run lengths."""

import dataclasses
import json

import cv2
import numpy as np

from data_prep.builders.videos import Object, Video
from vos_jax.data.png import encode_plain
from vos_jax.errors import InputError
from vos_jax.storage.palette import VOID

MAX_OBJECTS = 60  # of an image, the largest; what is left over becomes void, as crowds are


@dataclasses.dataclass(frozen=True)
class CocoMask:
    """The mask of an image, drawn when it is read; small objects lie over large ones."""

    name: str
    size: tuple[int, int]
    regions: tuple[tuple[int, object], ...]  # (id, segmentation), in the order of drawing

    def __str__(self):
        return self.name

    def read_bytes(self):
        """The mask as bytes of a PNG."""
        labels = np.zeros(self.size, np.uint8)
        for object_id, segmentation in self.regions:
            _draw(labels, segmentation, object_id, self.name)
        return encode_plain(labels)


def instance_files(files):
    """Names of the files of instances in a folder: those of training, or all there are."""
    names = [n for n in files if n.startswith('instances_') and n.endswith('.json')]
    return sorted(n for n in names if 'train' in n) or sorted(names)


def list_images(tree, folder):
    """Images with at least one object: (videos, problems)."""
    videos, problems = [], []
    for name in instance_files(tree.folder(folder)):
        file = tree.folder(folder)[name]
        images, categories, found = _read(file)
        places = _find_images(tree, name.removeprefix('instances_').removesuffix('.json'))
        for image_id, annotations in found.items():
            image = images[image_id]
            if image['file_name'] not in places:
                problems.append(f'{image["file_name"]}: this image is missing; {file} names it')
            elif video := _video(image, annotations, categories, places, file):
                videos.append(video)
    return sorted(videos, key=lambda video: video.name), problems


def _video(image, annotations, categories, places, file):
    """One photograph, or None where it shows crowds alone."""
    stem = image['file_name'].rpartition('/')[2].rpartition('.')[0]
    ordered = sorted(annotations, key=lambda a: (bool(a.get('iscrowd')), a.get('area', 0)))
    single = [a for a in ordered if not a.get('iscrowd')][::-1]  # the largest first
    kept, left_out = single[:MAX_OBJECTS], single[MAX_OBJECTS:]
    if not kept:
        return None
    crowds = [a for a in ordered if a.get('iscrowd')]
    regions = [(VOID, a['segmentation']) for a in crowds]
    regions += [(number + 1, a['segmentation']) for number, a in enumerate(kept)]
    regions += [(VOID, a['segmentation']) for a in left_out]
    objects = tuple(
        Object(number + 1, categories.get(a.get('category_id'), ''), stem)
        for number, a in enumerate(kept)
    )
    mask = CocoMask(f'{file}:{stem}', (image['height'], image['width']), tuple(regions))
    return Video(stem, {stem: places[image['file_name']]}, {stem: mask}, objects, needs=(stem,))


def _read(file):
    """Images and names of categories by id, and the annotations of each image."""
    try:
        content = json.loads(file.read_bytes())
        images = {image['id']: image for image in content['images']}
        categories = {c['id']: c['name'] for c in content.get('categories', ())}
        found = {}
        for annotation in content['annotations']:
            if annotation['image_id'] not in images:
                raise ValueError(f'annotation of image {annotation["image_id"]}, not in the list')
            found.setdefault(annotation['image_id'], []).append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{file}: no instances of COCO ({error!r}); download it again') from None
    return images, categories, found


def _find_images(tree, split):
    """The folder of a split, such as train2017, wherever it is; or any of the right name."""
    found = tree.find(split) or tree.find('images')
    return tree.folder(found[0]) if found else {}


def _draw(labels, segmentation, value, name):
    """Draws polygons, or run lengths as a list or as COCO's text."""
    try:
        if isinstance(segmentation, list):
            for polygon in segmentation:  # each by itself: together, overlaps would become holes
                points = np.rint(np.reshape(polygon, (-1, 1, 2))).astype(np.int32)
                cv2.fillPoly(labels, [points], value)
            return
        counts, size = segmentation['counts'], segmentation['size']
        if isinstance(counts, str):
            counts = read_counts(counts)
        inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        # Column by column; a mask of another size fails here.
        labels[inside.reshape(size[::-1]).T] = value
    except (ValueError, KeyError, TypeError, IndexError, cv2.error) as error:
        raise InputError(f'{name}: unreadable region ({error}); download it again') from None


def read_counts(text):
    """Run lengths of COCO's text form: five bits a character, from the third on as differences."""
    counts, position = [], 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            code = ord(text[position]) - 48
            value |= (code & 31) << shift
            more, position, shift = bool(code & 32), position + 1, shift + 5
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
