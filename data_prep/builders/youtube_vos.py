"""YouTube-VOS 2018 and 2019, as published (protocols.md, section 3.1)."""

import json

from data_prep.builders.videos import DataSet, Object, Video, by_stem
from vos_jax.data.frames import SUFFIXES
from vos_jax.errors import InputError
from vos_jax.storage.names import natural_key


def list_split(tree, split, options):
    """Videos of a split, and what is wrong with them; see DataSet."""
    del options
    folder = _find_folder(tree, split)
    if folder is None:
        return [], []
    file = tree.folder(folder)['meta.json']
    meta, problems, videos = _read_meta(file), [], []
    start = f'{folder}/' if folder else ''
    for name in sorted(meta):
        frames = by_stem(tree.folder(f'{start}JPEGImages/{name}'), SUFFIXES)
        masks = by_stem(tree.folder(f'{start}Annotations/{name}'), ('.png',))
        objects, wanted = _read_objects(meta[name], file, name)
        problems += [
            f'{start}JPEGImages/{name}/{stem}.jpg: this frame is missing; meta.json names it'
            for stem in sorted(wanted - set(frames))[:1]
            if frames
        ]
        needs = tuple(frames) if split == 'train' else tuple({o.first_frame for o in objects})
        needs = tuple(sorted(needs, key=natural_key))
        videos.append(Video(name, frames, masks, objects, needs=needs))
    listed = set(tree.folders_below(f'{start}JPEGImages'))
    problems += [f'{start}JPEGImages/{n}: not in meta.json' for n in sorted(listed - set(meta))]
    return videos, problems


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


def _read_meta(file):
    try:
        videos = json.loads(file.read())['videos']
        for video in videos.values():
            video['objects'].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{file}: not the form videos > name > objects > id > frames ({error!r}); '
            'download it again'
        ) from None
    return videos


def _read_objects(video, file, name):
    """(objects in the order of their ids, stems of all frames with objects)."""
    objects, wanted = [], set()
    try:
        for key in sorted(video['objects'], key=int):
            frames = sorted(video['objects'][key]['frames'], key=natural_key)
            objects.append(Object(int(key), video['objects'][key].get('category', ''), frames[0]))
            wanted.update(frames)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f'{file}: video {name} has an object without frames or id ({error!r}); '
            'download it again'
        ) from None
    return tuple(objects), wanted


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
