"""Videos of a published data set, and the example that is stored of each."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from vos_jax.data import exif, layouts, pictures
from vos_jax.data import frames as frame_files
from vos_jax.data import masks as mask_files
from vos_jax.data.png import encode_plain
from vos_jax.errors import InputError
from vos_jax.storage.names import times
from vos_jax.storage.palette import VOID


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a video, as the data set's own list says."""

    id: int
    category: str
    first_frame: str


@dataclasses.dataclass(frozen=True)
class Video:
    """One video, as published; nothing is read yet.

    Attributes:
      name: unique in its split.
      frames: files, as for `pictures.read_file`, by the stem of their frame, in time order.
      masks: the same of each annotated frame.
      objects: what the data set says about objects, or None.
      form: of the masks: 'ids', 'binary' (0 and 255), 'merged' (ids, all of them one object) or
        'soft' (grey values, from 128 on the object).
      needs: stems that must have a mask.
      upright: frames are turned as their EXIF says, unless the masks fit them as they are stored.
    """

    name: str
    frames: Mapping[str, Any]
    masks: Mapping[str, Any]
    objects: tuple[Object, ...] | None = None
    form: str = 'ids'
    needs: tuple[str, ...] = ()
    upright: bool = True

    @property
    def num_bytes(self):
        """Bytes of the frames, as far as known before reading."""
        return sum(getattr(file, 'size', 0) for file in self.frames.values())


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What is known of a published data set.

    Attributes:
      name: such as 'davis2017'.
      splits: published names of the splits.
      list_split: (tree, split, options) -> (videos, problems): all that can be seen in names.
        An absent split gives no videos and no problem.
      counts: published numbers by split: dict of 'videos', 'frames', 'objects'.
      has_ordered_ids: ids run from 1 without gap.
      description, homepage, licence, citation: for people.
    """

    name: str
    splits: tuple[str, ...]
    list_split: Any
    counts: Mapping[str, Mapping[str, int]]
    has_ordered_ids: bool
    description: str
    homepage: str
    licence: str
    citation: str


def find_problems(video):
    """What is wrong with a video by its names alone, as a list of texts."""
    if not video.frames:
        return [f'{video.name}: no frames']
    problems = [
        f'{video.masks[stem]}: mask without a frame of that name; names must agree'
        for stem in video.masks
        if stem not in video.frames
    ]
    missing = [stem for stem in video.needs if stem not in video.masks]
    if missing:
        problems.append(
            f'{video.name}/{missing[0]}.png: this mask is missing ({len(missing)} of '
            f'{len(video.needs)} that are needed)'
        )
    return problems


def read_video(video):
    """Reads and checks all files of a video; InputError at the first that is wrong.

    Returns:
      (example, labels): the example, of the features in tfds_builders.py, and all masks as
      u8[H, W] by stem.
    """
    frames, size = [], size_of(video)
    for file in video.frames.values():
        data = pictures.read_file(file, 'frame')
        frame = frame_files.decode_frame(data, file, size=size, upright=video.upright)
        frame_files.check_same_size(frame, size, file)
        frames.append(_plain(data, frame))
    labels = {stem: read_mask(video, stem, size) for stem in video.masks}
    objects = video.objects
    if objects is None:
        objects = find_objects(labels)
    example = {
        'name': video.name,
        'height': size[0],
        'width': size[1],
        'frames': frames,
        'frame_names': list(video.frames),
        'masks': [encode_plain(mask) for mask in labels.values()],
        'mask_frames': list(labels),
        'objects': [dataclasses.asdict(item) for item in objects],
    }
    return example, labels


def size_of(video):
    """(height, width) of the frames as they are seen; those of layouts.Sequence.size."""
    file = next(iter(video.frames.values()))
    return frame_files.read_size(file, upright=video.upright)


def settle_form(videos, problems, wanted='', of_ids='ids'):
    """Videos of which each says the form of all masks of the set, 'binary' or `of_ids`.

    What is wrong is added to `problems`, texts. `wanted`: what must be written where the masks are
    binary; '': they may be.
    """
    firsts = [next(iter(video.masks.values())) for video in videos if video.masks]
    others = (file for video in videos for file in video.masks.values())
    is_binary = False
    try:
        is_binary = mask_files.is_binary(firsts, others)
    except InputError as error:
        problems.append(str(error))
    if is_binary and wanted:
        problems.append(
            f'{firsts[0]}: only 0 and 255 here and in all first masks, need object ids; write '
            f'{wanted}'
        )
    form = 'binary' if is_binary and not wanted else of_ids
    return [dataclasses.replace(video, form=form) for video in videos]


def settle_orientation(videos, problems, tree=None, folders=()):
    """As layouts.settle_orientation; texts of what cannot be settled are added to `problems`.

    `folders`: of the rest of the set, pairs of folders of images and masks in a FileTree.
    """
    others = (
        layouts.fit_of(_unlisted(tree, f'{images}/{name}', f'{masks}/{name}'))
        for images, masks in folders
        for name in tree.folders_below(images)
    )
    return layouts.settle_orientation(videos, others, lambda error: problems.append(str(error)))


def _unlisted(tree, images, annotations):
    """The Video in two folders; without files where it could not be listed."""
    with contextlib.suppress(InputError):
        return Video(images, *tree.pictures(images, annotations))
    return Video(images, {}, {})


def _plain(data, frame):
    """A frame as it is stored: as published, but turned ones and those of other forms as PNG."""
    if pictures.form_of(data) in ('JPEG', 'PNG') and exif.read_orientation(data) == 1:
        return data
    return cv2.imencode('.png', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()


def read_mask(video, stem, size):
    """Reads one mask as ids: u8[H, W], 0 background, 255 void."""
    file = video.masks[stem]
    if video.form == 'soft':
        return _read_soft(file, size)
    labels = mask_files.read_labels(file, size, binary=video.form == 'binary')
    if video.form == 'merged':
        labels = np.where((labels > 0) & (labels < VOID), np.uint8(1), labels)
    return labels


def find_objects(labels):
    """Objects in masks by stem, each with the first frame that shows it."""
    first = {}
    for stem, mask in labels.items():
        for object_id in mask_files.object_ids(mask):
            first.setdefault(int(object_id), stem)
    return tuple(Object(object_id, '', first[object_id]) for object_id in sorted(first))


def _read_soft(file, size):
    frame = frame_files.read_frame(file, upright=False)
    if frame.shape[:2] != size:
        raise InputError(f'{file}: mask of size {times(frame.shape)}, its image is {times(size)}')
    return (frame[..., 0] >= 128).astype(np.uint8)
