"""DAVIS 2016 and 2017, YouTube-VOS 2018 and 2019, as published (docs/data.md, "Trees")."""

import functools

from data_prep.builders.videos import DataSet, Object, Video, settle_form, settle_orientation
from vos_jax.data import layouts, lists
from vos_jax.errors import InputError


def list_davis(tree, split, options, *, year):
    """Videos of a split, and what is wrong with them; see DataSet."""
    root = _root_of_davis(tree, year)
    name = f'{split}.txt'.replace('test_dev', 'test-dev')
    file = tree.folder(f'{root}ImageSets/{year}').get(name)
    if file is None:
        return [], []
    resolution = options.get('resolution') or _find_resolution(tree, f'{root}JPEGImages')
    images, annotations = f'{root}JPEGImages/{resolution}', f'{root}Annotations/{resolution}'
    videos, problems = [], []
    try:
        names = lists.parse_sequences(file.read_bytes(), file)
    except InputError as error:
        return [], [str(error)]
    for video in names:
        try:
            frames, masks = tree.pictures(f'{images}/{video}', f'{annotations}/{video}')
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


def _root_of_davis(tree, year):
    found = tree.find(f'ImageSets/{year}')
    if not found:
        raise InputError(
            f'{", ".join(tree.sources)}: no folder ImageSets/{year} in it; give the folder or '
            'archive of DAVIS that holds JPEGImages, Annotations and ImageSets'
        )
    return found[0].removesuffix(f'ImageSets/{year}')


def _find_resolution(tree, images):
    below = (name[len(images) + 1 :] for name in tree.folders() if name.startswith(f'{images}/'))
    names = sorted({name.split('/')[0] for name in below})
    return layouts.choose_resolution(names, f'{", ".join(tree.sources)}: {images}')


def list_youtube_vos(tree, split, options):
    """Videos of a split, and what is wrong with them; see DataSet."""
    del options
    folder = _folder_of_split(tree, split)
    if folder is None:
        return [], []
    file = tree.folder(folder)['meta.json']
    try:
        meta, problems, videos = lists.parse_meta(file.read_bytes(), file), [], []
    except InputError as error:
        return [], [str(error)]
    start = f'{folder}/' if folder else ''
    for name in sorted(meta):
        images, annotations = f'{start}JPEGImages/{name}', f'{start}Annotations/{name}'
        try:
            frames, masks = tree.pictures(images, annotations)
        except InputError as error:
            problems.append(str(error))
            continue
        first_ids, named = layouts.first_appearances(meta[name], tuple(frames))
        lost = [stem for stem in named if stem not in frames]
        problems += [
            f'{images}/{s}.jpg: this frame is missing; meta.json names it' for s in lost[:1]
        ]
        first = {object_id: stem for stem, ids in first_ids.items() for object_id in ids}
        objects = tuple(Object(i, meta[name][i].category, first[i]) for i in sorted(first))
        needs = tuple(frames) if split == 'train' else tuple(first_ids)
        videos.append(Video(name, frames, masks, objects, needs=needs))
    listed = set(tree.folders_below(f'{start}JPEGImages'))
    problems += [
        f'{start}JPEGImages/{name}: not in meta.json' for name in sorted(listed - set(meta))
    ]
    videos = settle_form(videos, problems, 'ids in place of 255')
    roots = [f'{one}/' if one else '' for one in tree.with_file('meta.json')]
    folders = [(f'{one}JPEGImages', f'{one}Annotations') for one in roots]
    return settle_orientation(videos, problems, tree, folders), problems


def _folder_of_split(tree, split):
    found = [f for f in tree.with_file('meta.json') if f.rpartition('/')[2] == split]
    if found:
        return found[0]
    if not tree.with_file('meta.json'):
        raise InputError(
            f'{", ".join(tree.sources)}: no meta.json in it; give the folder that holds train and '
            'valid, or train.zip and valid.zip'
        )
    return None


def _youtube_vos(year, counts):
    return DataSet(
        name=f'youtube_vos{year}',
        splits=('train', 'valid', 'test'),
        list_split=list_youtube_vos,
        counts=counts,
        has_ordered_ids=False,
        description=f'YouTube-VOS {year}, every fifth frame of videos of 30 frames a second.',
        homepage='https://youtube-vos.org',
        licence='See https://youtube-vos.org.',
        citation='Xu et al., YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark, '
        'arXiv:1809.03327',
    )


DAVIS2016 = DataSet(
    name='davis2016',
    splits=('train', 'val'),
    list_split=functools.partial(list_davis, year='2016'),
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
    list_split=functools.partial(list_davis, year='2017'),
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
YOUTUBE_VOS2018 = _youtube_vos(
    2018,
    {
        'train': {'videos': 3471, 'objects': 5945},
        'valid': {'videos': 474, 'objects': 894},
        'test': {'videos': 508, 'objects': 915},
    },
)
YOUTUBE_VOS2019 = _youtube_vos(
    2019,
    {
        'train': {'videos': 3471, 'objects': 6459},
        'valid': {'videos': 507, 'objects': 1063},
        'test': {'videos': 541},
    },
)
