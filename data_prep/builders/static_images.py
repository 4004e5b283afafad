"""Photographs with masks: COCO, VOC, SBD, and sets of image and mask pairs (ECSSD, MSRA10K, DUTS).

Which of these a folder or archive is, is seen by its files. Each photograph is stored as a video of
one frame; simulated clips are made of it in training (STM, models_stm.md, section 3.5).
"""

import io
import re
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from data_prep.builders import coco, sbd
from data_prep.builders.videos import DataSet, Video, by_stem
from vos_jax.data.frames import SUFFIXES
from vos_jax.errors import InputError

_MASK_FOLDER = re.compile(r'mask|gt|ground|annot|label|segm', re.IGNORECASE)
_SAMPLE = 16  # masks whose values tell the form of a set


def list_split(tree, split, options):
    """Photographs of one source; see DataSet."""
    del split, options
    found = next(filter(None, (kind(tree) for kind in (_coco, _voc, _sbd, _pairs))), None)
    if found is None:
        raise InputError(
            f'{tree.sources[0]}: neither COCO (instances_*.json), VOC (SegmentationObject), SBD '
            '(inst/*.mat) nor images with PNG masks of the same names; see docs/data.md'
        )
    videos, problems = found
    prefix = re.sub(r'(\.zip|\.tar|\.tgz|\.tar\.\w+)$', '', Path(tree.sources[0]).name)
    return [_rename(video, f'{prefix}-{video.name}') for video in videos], problems


def _coco(tree):
    folders = [f for f in tree.find('annotations') if coco.instance_files(tree.folder(f))]
    return coco.list_images(tree, folders[0]) if folders else None


def _voc(tree):
    found = tree.find('SegmentationObject')
    if not found:
        return None
    root = found[0].removesuffix('SegmentationObject')
    masks = by_stem(tree.folder(found[0]), ('.png',))
    images = by_stem(tree.folder(f'{root}JPEGImages'), SUFFIXES)
    return _match(images, masks, 'ids', all_images=False)


def _sbd(tree):
    found = [f for f in tree.find('inst') if by_stem(tree.folder(f), ('.mat',))]
    if not found:
        return None
    root = found[0].removesuffix('inst')
    files = by_stem(tree.folder(found[0]), ('.mat',))
    masks = {stem: sbd.SbdMask(file) for stem, file in files.items()}
    return _match(by_stem(tree.folder(f'{root}img'), SUFFIXES), masks, 'ids', all_images=False)


def _pairs(tree):
    """Images and PNG masks: in one folder, or in two neighbours of which one is named for masks."""
    images, masks = {}, {}
    for folder in tree.folders():
        files = tree.folder(folder)
        parent = folder.rpartition('/')[0]
        pngs = by_stem(files, ('.png',))
        jpegs = by_stem(files, ('.jpg', '.jpeg'))
        if jpegs and pngs.keys() & jpegs.keys():
            images.update({(folder, stem): file for stem, file in jpegs.items()})
            masks.update({(folder, stem): file for stem, file in pngs.items()})
        elif _MASK_FOLDER.search(PurePosixPath(folder).name) and not jpegs:
            masks.update({(parent, stem): file for stem, file in pngs.items()})
        else:
            images.update({(parent, stem): file for stem, file in (jpegs | pngs).items()})
    if not (images.keys() & masks.keys()):
        return None
    names = [stem for _, stem in images]
    is_unique = len(set(names)) == len(names)
    names = {key: key[1] if is_unique else '-'.join(filter(None, key)) for key in images | masks}
    images = {names[key].replace('/', '-'): file for key, file in images.items()}
    masks = {names[key].replace('/', '-'): file for key, file in masks.items()}
    return _match(images, masks, _form_of(list(masks.values())[:_SAMPLE]), all_images=True)


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
    """'soft' where any value lies in 64..254, or all are 0 and 255; else 'ids'."""
    values = set()
    for file in files:
        try:
            with Image.open(io.BytesIO(file.read())) as image:
                values.update(np.unique(np.asarray(image)).tolist())
        except OSError as error:
            raise InputError(f'{file}: unreadable mask ({error}); copy the file again') from None
    values -= {0, 255}
    return 'ids' if values and max(values) < 64 else 'soft'


def _rename(video, name):
    return Video(name, video.frames, video.masks, video.objects, video.form, video.needs)


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
