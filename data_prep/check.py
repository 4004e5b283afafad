"""Checks a data set, published or prepared: reads every file, compares with the published numbers.

The command is `vos-check` (vos_jax.commands.check).
"""

import dataclasses
import functools
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_prep import shards, workers
from data_prep.builders.videos import (
    Object,
    Video,
    find_objects,
    find_problems,
    read_mask,
    size_of,
)
from data_prep.prepare import find_videos, open_sources
from vos_jax.data import frames as frame_files
from vos_jax.data import overlay, prepared
from vos_jax.data.masks import object_ids
from vos_jax.errors import InputError
from vos_jax.storage.atomic import replacing
from vos_jax.storage.palette import VOID
from vos_jax.storage.progress import Progress

_PREVIEW_FRAMES, _PREVIEW_HEIGHT = 4, 240
_ALL_MIND = 'evaluation, preparing and training refuse it'
# By a part of the problem; the first that fits.
_MINDED = {
    'published are': '',  # no command
    'not in meta.json': 'preparing refuses it, the others leave it out',
    'is missing (': 'training and preparing refuse it; --protocol=davis_sparse scores the others',
    'no object in any of its': 'evaluation and training refuse it',
    'no object in it, though': 'evaluation refuses it; training draws clips that begin later',
    'ids out of order': 'evaluation scores those between as absent objects',
    'stray value': 'training takes it for an object',
    'though listed to appear': 'evaluation scores it as lost',
    '255 (void) in it': 'evaluation of one object refuses it; others take it for no object',
    'two of that name': 'preparing refuses it',
}


@dataclasses.dataclass
class Findings:
    """Numbers of one or many videos, and their problems as texts."""

    videos: int = 0
    frames: int = 0
    masks: int = 0
    objects: int = 0
    problems: list = dataclasses.field(default_factory=list)

    def add(self, other):
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)


def inspect_video(video, *, has_ordered_ids):
    """Findings of all files of a video; `has_ordered_ids`: ids must run from 1 without gap."""
    found = Findings(videos=1, frames=len(video.frames), masks=len(video.masks))
    found.problems += find_problems(video)
    size = _inspect_frames(video, found.problems)
    labels = {}
    for stem in video.masks if size else ():
        if stem in video.frames:
            try:
                labels[stem] = read_mask(video, stem, size)
            except InputError as error:
                found.problems.append(str(error))
    seen = find_objects(labels)
    found.objects = len(seen if video.objects is None else video.objects)
    if labels:
        found.problems += _find_id_problems(video, labels, seen, has_ordered_ids)
    return found


def _inspect_frames(video, problems):
    """Size of the frames, or None."""
    try:
        size = size_of(video) if video.frames else None
    except InputError as error:
        problems.append(str(error))
        size = None
    for file in video.frames.values():
        try:
            frame = frame_files.read_frame(file, size=size, upright=video.upright)
            size = size or frame.shape[:2]
            frame_files.check_same_size(frame, size, file)
        except InputError as error:
            if str(error) not in problems:
                problems.append(str(error))
    return size


def _find_id_problems(video, labels, seen, has_ordered_ids):
    if not seen:
        return [f'{video.name}: no object in any of its {len(labels)} masks']
    ids = [item.id for item in seen]
    problems = [
        f'{video.masks[stem]}: only 0 and 255 (void) in it, but ids in other masks of {video.name}'
        for stem, mask in labels.items()
        if mask.max() == VOID and not len(object_ids(mask))
    ]
    if has_ordered_ids and ids != list(range(1, len(ids) + 1)):
        problems.append(f'{video.name}: ids out of order: {ids}, must be 1 to {len(ids)}')
    if video.objects is None:
        first = next(iter(video.frames))
        if first in labels and not len(object_ids(labels[first])):
            problems.append(
                f'{video.masks[first]}: no object in it, though it says which objects to follow'
            )
        return problems
    known = {item.id for item in video.objects}
    for item in seen:
        if item.id not in known:
            problems.append(
                f'{video.masks[item.first_frame]}: stray value {item.id}, the objects of '
                f'{video.name} are {sorted(known)}'
            )
    for item in video.objects:
        mask = labels.get(item.first_frame)
        if not 0 < item.id < VOID:
            problems.append(f'{video.name}: id {item.id}, ids are 1 to {VOID - 1}')
        elif mask is not None and not np.any(mask == item.id):
            problems.append(
                f'{video.masks[item.first_frame]}: object {item.id} is not in it, though listed '
                'to appear there first'
            )
    return problems


@dataclasses.dataclass(frozen=True)
class Shard:
    """The Videos of a shard of a prepared set, which the index lists."""

    path: Path
    num_bytes: int
    entries: tuple[dict, ...]

    def __len__(self):
        return len(self.entries)

    def __iter__(self):
        # The reader compares checksums of each record.
        from array_record.python import array_record_module

        prepared.check_shard_size(self.path, self.num_bytes)
        reader = array_record_module.ArrayRecordReader(str(self.path), 'readahead_buffer_size:0')
        try:
            for position, entry in enumerate(self.entries):
                yield _open_record(self.path, reader.read([position])[0], entry)
        except (RuntimeError, IndexError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            text = ' '.join(str(error).split())
            raise InputError(f'{self.path}: damaged ({text}); prepare or copy it again') from None


def check(data_set, sources, *, splits=(), resolution='', num_processes=1):
    """Checks all splits that are there; arguments as of `prepare.prepare`.

    Args:
      data_set: builders.videos.DataSet.
      sources: folders or archives as published, or one folder of a prepared set.

    Returns:
      dict of split -> Findings; no entry for a split that is not there.
    """
    groups, problems = list_groups(data_set, sources, splits, resolution)
    inspect = functools.partial(_inspect, has_ordered_ids=data_set.has_ordered_ids)
    todo = [group for parts in groups.values() for group in parts]
    progress = Progress('videos', sum(map(len, todo)))
    done = workers.run_jobs(inspect, todo, num_processes, progress.reach)
    progress.close()
    found, results = {}, iter(done)
    for split, parts in groups.items():
        found[split] = Findings(problems=problems[split])
        for _ in parts:
            found[split].add(next(results))
        found[split].problems = list(dict.fromkeys(found[split].problems))
    return found


def list_groups(data_set, sources, splits, resolution):
    """(groups of videos, problems seen in names alone), each a dict by split."""
    if len(sources) == 1 and any(Path(sources[0]).glob(f'**/{prepared.INDEX}')):
        return _list_prepared(data_set, sources[0], splits)
    trees = open_sources(data_set, sources, None)
    groups, problems = {}, {}
    for split in splits or data_set.splits:
        videos, wrong = find_videos(data_set, trees, split, {'resolution': resolution})
        if videos or wrong or splits:
            groups[split] = shards.deal(videos)
            problems[split] = wrong if videos or wrong else [f'split {split} is missing']
    if not groups:
        raise InputError(
            f'{", ".join(sources)}: none of the splits {", ".join(data_set.splits)} in it'
        )
    return groups, problems


def _list_prepared(data_set, root, splits):
    folder, index = prepared.read_index(root)
    if index['name'] != data_set.name:
        raise InputError(f'{folder}: holds {index["name"]}, not {data_set.name}')
    groups, problems = {}, {}
    for split in splits or index['splits']:
        part = index['splits'].get(split, {'shards': [], 'videos': []})
        problems[split] = [] if part['shards'] else [f'split {split} is missing']
        entries = {}
        for video in part['videos']:
            entries.setdefault(video['shard'], []).append(video)
        groups[split] = [
            Shard(folder / shard['file'], shard['bytes'], tuple(entries.get(shard['file'], ())))
            for shard in part['shards']
        ]
    return groups, problems


def _inspect(group, report, *, has_ordered_ids):
    found = Findings()
    try:
        for video in group:
            found.add(inspect_video(video, has_ordered_ids=has_ordered_ids))
            report(1)
    except InputError as error:  # the shard itself; what is left of it cannot be read
        found.problems.append(str(error))
    return found


def _open_record(path, data, entry):
    """The Video of a record, whose parts must be where the index says."""
    record, stored = shards.decode_example(data), prepared.sequence(path.parent, entry)
    parts = [*stored.frames, *stored.masks.values()]
    names = [name.encode() for name in (entry['name'], *stored.stems, *stored.masks)]
    is_there = names == [*record['name'], *record['frame_names'], *record['mask_frames']]
    contents = [part.read_bytes() for part in parts] if is_there else []
    if contents != [*record['frames'], *record['masks']]:
        raise InputError(
            f'{path}: {entry["name"]} is not where {prepared.INDEX} says; prepare the data set '
            'again'
        )
    frames, objects = dict(zip(stored.stems, stored.frames)), entry['objects']
    objects = tuple(Object(**item) for item in objects)
    return Video(stored.name, frames, stored.masks, objects, upright=False)


def format_table(data_set, found, *, counts=True):
    """(lines of a table of numbers against the published ones, problems with those numbers)."""
    rows, problems = [('split', 'videos', 'frames', 'masks', 'objects', 'problems')], []
    for split in data_set.splits:
        if split not in found:
            rows.append((split, 'absent', '', '', '', ''))
            continue
        published = data_set.counts.get(split, {}) if counts else {}
        row = [split]
        for name in ('videos', 'frames', 'masks', 'objects'):
            number, right = getattr(found[split], name), published.get(name)
            row.append(f'{number:,}' if right is None else f'{number:,} of {right:,}')
            if right is not None and number != right:
                problems.append(f'{split}: {number:,} {name}, published are {right:,}')
        rows.append((*row, f'{len(found[split].problems):,}'))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['  '.join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return lines, problems


def who_minds(problem):
    """What the commands do about a problem."""
    return next((note for part, note in _MINDED.items() if part in problem), _ALL_MIND)


def write_preview(path, groups, num_clips):
    """Draws frames of some videos of the groups with their masks in a PNG, a row for each."""
    rng = np.random.default_rng(0)
    rows = []
    for group in rng.permutation(np.arange(len(groups)))[:num_clips]:
        videos = list(groups[group])
        rows.append(_draw_clip(videos[rng.integers(len(videos))]))
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(r, ((0, 4), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows
    ]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(padded)).save(temporary, 'PNG')


def _draw_clip(video):
    """Annotated frames of a video with their masks, in one row."""
    stems = [stem for stem in video.frames if stem in video.masks]
    if not stems:
        raise InputError(f'{video.name}: no annotated frame to show')
    count = min(_PREVIEW_FRAMES, len(stems))
    images = []
    for place in np.linspace(0, len(stems) - 1, count).round().astype(int):
        file = video.frames[stems[place]]
        size = size_of(video)
        frame = frame_files.read_frame(file, size=size, upright=video.upright)
        labels = read_mask(video, stems[place], frame.shape[:2])
        size = (round(frame.shape[1] * _PREVIEW_HEIGHT / frame.shape[0]), _PREVIEW_HEIGHT)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        images.append(overlay.overlay(frame, labels))
    return overlay.side_by_side(images)
