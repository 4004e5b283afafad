"""Photographs with masks: COCO, VOC, SBD, and sets of image and mask pairs (ECSSD, MSRA10K, DUTS).

Which of these a folder or archive is, is seen by its files. Each photograph is stored as a video of
one frame; simulated clips are made of it in training (STM's first stage).
"""

import dataclasses
import functools
import io
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_prep.builders import coco
from data_prep.builders.videos import DataSet, Video, settle_orientation
from vos_jax.data import listing, masks, pictures
from vos_jax.data.frames import SUFFIXES
from vos_jax.data.png import encode_plain
from vos_jax.errors import InputError

_PHOTOS = tuple(suffix for suffix in SUFFIXES if suffix != '.png')
_MASK_FOLDER = re.compile(r'mask|gt|ground|annot|label|segm', re.IGNORECASE)
_SAMPLE = 16  # masks whose values tell the form of a set
_by_stem = functools.partial(listing.by_stem, timed=False)


@dataclasses.dataclass(frozen=True)
class SbdMask:
    """Instances of one image: the array GTinst.Segmentation of a file below inst."""

    file: Any

    def __str__(self):
        return str(self.file)

    def read_bytes(self):
        """The mask as bytes of a PNG."""
        from scipy import io as matlab  # slow to load, and only this data set needs it

        try:
            content = matlab.loadmat(io.BytesIO(self.file.read_bytes()), squeeze_me=True)
            labels = np.asarray(content['GTinst']['Segmentation'].item())
            if labels.ndim != 2 or labels.max() > 254:
                raise ValueError(f'array of shape {labels.shape}, largest id {labels.max()}')
        except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
            raise InputError(f'{self}: no instances of SBD ({error}); download it again') from None
        return encode_plain(labels.astype(np.uint8))


def list_split(tree, split, options):
    """Photographs of one source; see DataSet."""
    del split, options
    try:
        found = next(filter(None, (kind(tree) for kind in (_coco, _voc, _sbd, _pairs))), None)
    except InputError as error:
        return [], [str(error)]
    if found is None:
        raise InputError(
            f'{tree.sources[0]}: neither COCO (instances_*.json), VOC (SegmentationObject), SBD '
            '(inst/*.mat) nor images with PNG masks of the same names; see docs/data.md'
        )
    videos, problems = found
    prefix = re.sub(r'(\.zip|\.tar|\.tgz|\.tar\.\w+)$', '', Path(tree.sources[0]).name)
    videos = [dataclasses.replace(video, name=f'{prefix}-{video.name}') for video in videos]
    return settle_orientation(videos, problems), problems


def _coco(tree):
    folders = [f for f in tree.find('annotations') if coco.instance_files(tree.folder(f))]
    return coco.list_images(tree, folders[0]) if folders else None


def _voc(tree):
    found = tree.find('SegmentationObject')
    if not found:
        return None
    root = found[0].removesuffix('SegmentationObject')
    masks = _by_stem(tree.folder(found[0]), ('.png',), found[0])
    images = _by_stem(tree.folder(f'{root}JPEGImages'), SUFFIXES, f'{root}JPEGImages')
    return _match(images, masks, 'ids', all_images=False)


def _sbd(tree):
    found = [f for f in tree.find('inst') if _by_stem(tree.folder(f), ('.mat',), f)]
    if not found:
        return None
    root = found[0].removesuffix('inst')
    files = _by_stem(tree.folder(found[0]), ('.mat',), found[0])
    masks = {stem: SbdMask(file) for stem, file in files.items()}
    images = _by_stem(tree.folder(f'{root}img'), SUFFIXES, f'{root}img')
    return _match(images, masks, 'ids', all_images=False)


def _pairs(tree):
    """Images and PNG masks: in one folder, or in two neighbours of which one is named for masks."""
    images, masks = {}, {}
    for folder in tree.folders():
        files = tree.folder(folder)
        parent = folder.rpartition('/')[0]
        pngs = _by_stem(files, ('.png',), folder)
        jpegs = _by_stem(files, _PHOTOS, folder)
        if jpegs and pngs.keys() & jpegs.keys():
            _add(images, folder, jpegs)
            _add(masks, folder, pngs)
        elif _MASK_FOLDER.search(PurePosixPath(folder).name) and not jpegs:
            _add(masks, parent, pngs)
        else:
            _add(images, parent, jpegs | pngs)
    if not (images.keys() & masks.keys()):
        return None
    names = [stem for _, stem in images]
    is_unique = len(set(names)) == len(names)
    names = {key: key[1] if is_unique else '-'.join(filter(None, key)) for key in images | masks}
    images = {names[key].replace('/', '-'): file for key, file in images.items()}
    masks = {names[key].replace('/', '-'): file for key, file in masks.items()}
    return _match(images, masks, _form_of(masks.values()), all_images=True)


def _add(found, folder, files):
    """Adds files by (folder, stem), which must not be there yet."""
    for stem, file in files.items():
        first = found.setdefault((folder, stem), file)
        if first is not file:
            raise InputError(
                f'{file}: {first} has this name too, and nothing says which belongs to the set; '
                'give a source with one folder of images and one of masks'
            )


def _match(images, masks, form, *, all_images):
    """Videos of one frame. Of VOC and SBD only some images have masks."""
    videos = [
        Video(stem, {stem: file}, {stem: masks[stem]}, form=form, needs=(stem,))
        for stem, file in images.items()
        if stem in masks
    ]
    problems = [f'{masks[stem]}: mask without image' for stem in masks if stem not in images]
    if all_images:
        problems += [f'{images[stem]}: image without mask' for stem in images if stem not in masks]
    return videos, problems


def _form_of(files):
    """'soft' where any value is in 64..254, or all are 0 and 255; else 'ids'.

    Files that may be ids as well as black and white, as those of 1 bit, tell nothing: the rest of
    the set does.
    """
    values = set()
    for number, file in enumerate(files):
        if number >= _SAMPLE and values - {0}:
            break
        values |= _values_of(file)
    return 'ids' if values - {0, 255} and max(values - {255}) < 64 else 'soft'


def _values_of(file):
    data = pictures.read_file(file, 'mask')
    with pictures.opened(data, file, 'mask') as image:
        values = np.asarray(image)
    if masks.is_black_and_white(values, data):
        return set()
    return set(np.unique(values).tolist())


STATIC_IMAGES = DataSet(
    name='static_images',
    splits=('train',),
    list_split=list_split,
    counts={},
    has_ordered_ids=False,
    description='Photographs with masks, for clips simulated from them.',
    homepage='https://github.com/seoungwugoh/STM',
    licence='That of each source; see docs/data.md.',
    citation='Oh et al., Video Object Segmentation using Space-Time Memory Networks, ICCV 2019',
)
