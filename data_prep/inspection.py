"""Looks at every file of a video and says all that is wrong with it."""

import dataclasses

import numpy as np

from data_prep.builders.videos import (
    check_size,
    find_objects,
    find_problems,
    read_mask,
    size_of,
)
from vos_jax.data import frames as frame_files
from vos_jax.data.masks import object_ids
from vos_jax.errors import InputError
from vos_jax.storage.palette import VOID


@dataclasses.dataclass
class Findings:
    """Numbers of one or many videos, and their problems as texts."""

    videos: int = 0
    frames: int = 0
    masks: int = 0
    objects: int = 0
    problems: list = dataclasses.field(default_factory=list)

    def add(self, other):
        """Adds those of other videos."""
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)


def inspect_video(video, *, has_ordered_ids):
    """Reads all files of a video.

    Args:
      video: builders.videos.Video.
      has_ordered_ids: ids must run from 1 without gap.

    Returns:
      Findings.
    """
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
            frame = frame_files.decode_frame(file.read(), file, size=size, upright=video.upright)
            size = size or frame.shape[:2]
            check_size(frame, file, size)
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
