"""DAVIS 2016 and 2017, as published (docs/data.md, "Trees")."""

import functools

from data_prep.builders.videos import DataSet, Video, settle_form, settle_orientation
from vos_jax.data import lists
from vos_jax.data.layouts import choose_resolution
from vos_jax.data.listing import by_stem
from vos_jax.errors import InputError


def list_split(tree, split, options, *, year):
    """Videos of a split, and what is wrong with them; see DataSet."""
    root = _find_root(tree, year)
    name = f'{split}.txt'.replace('test_dev', 'test-dev')
    file = tree.folder(f'{root}ImageSets/{year}').get(name)
    if file is None:
        return [], []
    resolution = options.get('resolution') or _find_resolution(tree, f'{root}JPEGImages')
    images, annotations = f'{root}JPEGImages/{resolution}', f'{root}Annotations/{resolution}'
    videos, problems = [], []
    try:
        names = lists.parse_sequences(file.read(), file)
    except InputError as error:
        return [], [str(error)]
    for video in names:
        try:
            frames = tree.frames(f'{images}/{video}')
            masks = by_stem(tree.folder(f'{annotations}/{video}'), ('.png',), annotations)
        except InputError as error:
            problems.append(str(error))
            continue
        needs = tuple(frames)[:1] if split.startswith('test') else tuple(frames)
        videos.append(Video(video, frames, masks, needs=needs))
    if year == '2016':  # one object: all ids are merged
        videos = settle_form(videos, problems, of_ids='merged')
    else:
        videos = settle_form(videos, problems, '1 in place of 255, or take it as davis2016')
    return settle_orientation(videos, problems, tree, [(images, annotations)]), problems


def _find_root(tree, year):
    lists = tree.find(f'ImageSets/{year}')
    if not lists:
        raise InputError(
            f'{", ".join(tree.sources)}: no folder ImageSets/{year} in it; give the folder or '
            'archive of DAVIS that holds JPEGImages, Annotations and ImageSets'
        )
    return lists[0].removesuffix(f'ImageSets/{year}')


def _find_resolution(tree, images):
    below = (name[len(images) + 1 :] for name in tree.folders() if name.startswith(f'{images}/'))
    names = sorted({name.split('/')[0] for name in below})
    chosen = choose_resolution(names)
    if chosen is not None:
        return chosen
    raise InputError(
        f'{", ".join(tree.sources)}: {images} has {", ".join(names) or "no folders"}; '
        'needed: 480p or one folder of frames, or name one as --resolution'
    )


DAVIS2016 = DataSet(
    name='davis2016',
    splits=('train', 'val'),
    list_split=functools.partial(list_split, year='2016'),
    # The lists of the 2017 release at 480p.
    counts={
        'train': {'videos': 30, 'frames': 2079, 'objects': 30},
        'val': {'videos': 20, 'frames': 1376, 'objects': 20},
    },
    has_ordered_ids=True,
    description='DAVIS 2016: 50 videos, one object each.',
    homepage='https://davischallenge.org/davis2016/code.html',
    licence='CC BY-NC 4.0 by its README; sequences from YouTube carry their own terms.',
    citation='Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object '
    'Segmentation, CVPR 2016',
)
DAVIS2017 = DataSet(
    name='davis2017',
    splits=('train', 'val', 'test_dev'),
    list_split=functools.partial(list_split, year='2017'),
    counts={
        'train': {'videos': 60, 'frames': 4209, 'objects': 144},
        'val': {'videos': 30, 'frames': 1999, 'objects': 61},
        'test_dev': {'videos': 30, 'frames': 2086, 'objects': 89},
    },
    has_ordered_ids=True,
    description='DAVIS 2017: 90 videos with masks of all objects, and 30 of test-dev.',
    homepage='https://davischallenge.org/davis2017/code.html',
    licence='CC BY-NC 4.0 by its README; sequences from YouTube carry their own terms.',
    citation='Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation, '
    'arXiv:1704.00675',
)
