"""YouTube-VOS 2018 and 2019, as published (docs/data.md, "Trees")."""

from data_prep.builders.videos import DataSet, Object, Video, settle_form, settle_orientation
from vos_jax.data import layouts, lists
from vos_jax.data.listing import by_stem
from vos_jax.errors import InputError


def list_split(tree, split, options):
    """Videos of a split, and what is wrong with them; see DataSet."""
    del options
    folder = _find_folder(tree, split)
    if folder is None:
        return [], []
    file = tree.folder(folder)['meta.json']
    try:
        meta, problems, videos = lists.parse_meta(file.read(), file), [], []
    except InputError as error:
        return [], [str(error)]
    start = f'{folder}/' if folder else ''
    for name in sorted(meta):
        images, annotations = f'{start}JPEGImages/{name}', f'{start}Annotations/{name}'
        try:
            frames = tree.frames(images)
            masks = by_stem(tree.folder(annotations), ('.png',), annotations)
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


def _find_folder(tree, split):
    found = [f for f in tree.with_file('meta.json') if f.rpartition('/')[2] == split]
    if found:
        return found[0]
    if not tree.with_file('meta.json'):
        raise InputError(
            f'{", ".join(tree.sources)}: no meta.json in it; give the folder that holds train and '
            'valid, or train.zip and valid.zip'
        )
    return None


def _make(year, counts):
    return DataSet(
        name=f'youtube_vos{year}',
        splits=('train', 'valid', 'test'),
        list_split=list_split,
        counts=counts,
        has_ordered_ids=False,
        description=f'YouTube-VOS {year}, every fifth frame of videos of 30 frames a second.',
        homepage='https://youtube-vos.org',
        licence='See https://youtube-vos.org.',
        citation='Xu et al., YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark, '
        'arXiv:1809.03327',
    )


YOUTUBE_VOS2018 = _make(
    2018,
    {
        'train': {'videos': 3471, 'objects': 5945},
        'valid': {'videos': 474, 'objects': 894},
        'test': {'videos': 508, 'objects': 915},
    },
)
YOUTUBE_VOS2019 = _make(
    2019,
    {
        'train': {'videos': 3471, 'objects': 6459},
        'valid': {'videos': 507, 'objects': 1063},
        'test': {'videos': 541},
    },
)
