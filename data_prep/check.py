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
from data_prep.builders.videos import Object, Video, read_mask, size_of
from data_prep.inspection import Findings, inspect_video
from data_prep.prepare import find_videos, open_sources
from vos_jax.data import frames as frame_files
from vos_jax.data import overlay
from vos_jax.data.shards import prepared, records
from vos_jax.errors import InputError
from vos_jax.storage.atomic import replacing
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


@dataclasses.dataclass(frozen=True)
class Part:
    """Bytes of a record, read as a file is."""

    name: str
    data: bytes

    def __str__(self):
        return self.name

    def read(self):
        """The bytes."""
        return self.data


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard of a prepared set, and what the index says is in it."""

    path: Path
    num_bytes: int
    entries: tuple[dict, ...]

    @property
    def num_videos(self):
        """Videos that must be in it."""
        return len(self.entries)

    def videos(self):
        """Yields its Videos; the reader compares checksums of each record."""
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


@dataclasses.dataclass(frozen=True)
class Group:
    """Some videos of a published set."""

    members: tuple[Video, ...]

    @property
    def num_videos(self):
        """Their number."""
        return len(self.members)

    def videos(self):
        """The videos."""
        return self.members


def check(data_set, sources, *, splits=(), resolution='', num_processes=1):
    """Checks all splits that are there.

    Args:
      data_set: builders.videos.DataSet.
      sources: folders or archives as published, or one folder of a prepared set.
      splits: those wanted, which must be there; (): all that are there.
      resolution: of DAVIS: the folder below JPEGImages; '': 480p, or the only one.
      num_processes: processes to use.

    Returns:
      dict of split -> Findings; no entry for a split that is not there.
    """
    groups, problems = list_groups(data_set, sources, splits, resolution)
    inspect = functools.partial(_inspect, has_ordered_ids=data_set.has_ordered_ids)
    todo = [group for parts in groups.values() for group in parts]
    progress = Progress('videos', sum(group.num_videos for group in todo))
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
            groups[split] = [Group(tuple(part)) for part in shards.deal(videos)] if videos else []
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
        for video in group.videos():
            found.add(inspect_video(video, has_ordered_ids=has_ordered_ids))
            report(1)
    except InputError as error:  # the shard itself; what is left of it cannot be read
        found.problems.append(str(error))
    return found


def _open_record(path, data, entry):
    """The Video of a record, whose parts must be where the index says."""
    record = records.decode_example(data)
    name = str(record['name'][0], 'utf-8')
    for kind in ('frame', 'mask'):
        for place, part in zip(entry[f'{kind}_parts'], record[f'{kind}s'], strict=True):
            if name != entry['name'] or prepared.read_part(path, *place) != part:
                raise InputError(
                    f'{path}: {entry["name"]} is not where {prepared.INDEX} says; prepare '
                    'the data set again'
                )
    frames = _parts(path, name, 'jpg', record['frame_names'], record['frames'])
    masks = _parts(path, name, 'png', record['mask_frames'], record['masks'])
    objects = tuple(Object(**item) for item in entry['objects'])
    return Video(name, frames, masks, objects, upright=False)


def _parts(path, name, suffix, stems, contents):
    stems = [str(stem, 'utf-8') for stem in stems]
    return {
        stem: Part(f'{path}/{name}/{stem}.{suffix}', bytes(data))
        for stem, data in zip(stems, contents, strict=True)
    }


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


def write_preview(path, groups, num_clips, seed=0):
    """Draws frames of some videos with their masks, a row for each video.

    Args:
      path: PNG to write.
      groups: of one split, see `list_groups`.
      num_clips: rows.
      seed: which videos.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for group in rng.permutation(np.arange(len(groups)))[:num_clips]:
        videos = list(groups[group].videos())
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
        frame = frame_files.decode_frame(file.read(), file, size=size, upright=video.upright)
        labels = read_mask(video, stems[place], frame.shape[:2])
        size = (round(frame.shape[1] * _PREVIEW_HEIGHT / frame.shape[0]), _PREVIEW_HEIGHT)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        images.append(overlay.overlay(frame, labels))
    return overlay.side_by_side(images)
