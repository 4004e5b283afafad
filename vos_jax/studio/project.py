"""One video with its objects and masks, those painted and those found. All of it on disk."""

import threading
from pathlib import Path

import numpy as np

from vos_jax.data import masks as mask_files
from vos_jax.errors import InputError
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import read_json, write_json
from vos_jax.storage.palette import COLOURS, VOID
from vos_jax.studio.frames import FrameStore
from vos_jax.video.reader import open_video

FILE = 'project.json'
MAX_OBJECTS = 60  # a mask with more values than masks.MAX_VALUES is taken for an anti-aliased one
_FORMAT = 1
_FILE_FORM = {'format': int, 'video': str, 'objects': [dict], 'given': {str: [int]}}


class Project:
    """A folder with `project.json`, `given/` (painted masks), `masks/` (all masks) and `frames/`.

    Masks are u8[H, W] ids in the size of the stored frames. A painted mask says the whole truth
    about the objects it is about (`given`): those that were there when it was painted, or are now.
    Others, which come to that frame later, stay.
    """

    def __init__(self, folder, video):
        """
        Args:
          folder: of the project, with project.json or new.
          video: path of the video.
        """
        self.folder = Path(folder)
        self._lock = threading.RLock()
        self.video = open_video(video)
        stored = read_file(self.folder) if (self.folder / FILE).is_file() else {}
        self.objects = stored.get('objects') or [new_object(1)]
        self.given = {int(n): ids for n, ids in stored.get('given', {}).items()}
        self.frames = FrameStore(self.folder / 'frames', self.video)
        self.size = self.frames.size
        self.masked = {int(path.stem) for path in self._masks().glob('[0-9]*.png')}
        self.version = 0
        self.save()

    def close(self):
        self.frames.close()

    def save(self):
        """Writes project.json."""
        with self._lock:
            values = {
                'format': _FORMAT,
                'video': str(self.video.path.resolve()),
                'objects': self.objects,
                'given': {str(number): ids for number, ids in sorted(self.given.items())},
            }
            write_json(self.folder / FILE, values)
            self.version += 1

    def ids(self):
        """Ids of all objects."""
        return [one['id'] for one in self.objects]

    def set_objects(self, objects):
        """Takes names, colours, new and removed objects; masks of removed ones are cleared."""
        objects = [_checked_object(one) for one in objects]
        ids = [one['id'] for one in objects]
        if len(set(ids)) < len(ids) or len(ids) > MAX_OBJECTS:
            raise InputError(f'objects: at most {MAX_OBJECTS}, each with an id of its own')
        with self._lock:
            removed = set(self.ids()) - set(ids)
            self.objects = objects
            if removed:
                self._clear(removed)
            self.save()

    def mask(self, number):
        """u8[H, W] of a frame, or None."""
        path = self._path(number)
        with self._lock:
            return mask_files.read_labels(path, self.size) if path.is_file() else None

    def given_mask(self, number):
        """(u8[H, W] as painted, ids it is about), or None."""
        with self._lock:
            if number not in self.given:
                return None
            labels = mask_files.read_labels(self._path(number, 'given'), self.size)
            return labels, list(self.given[number])

    def paint(self, number, labels):
        """Takes a mask that a person painted."""
        if not 0 <= number < self.frames.count:
            raise InputError(f'frame {number}: the video has {self.frames.count} frames so far')
        ids = set(mask_files.object_ids(labels).tolist())
        unknown = ids - set(self.ids())
        if unknown or np.any(labels == VOID):
            raise InputError(f'mask with ids {sorted(unknown) or [255]}, which are no objects here')
        with self._lock:
            before = self.mask(number)
            if before is not None:
                ids |= set(mask_files.object_ids(before).tolist())
            ids |= set(self.given.get(number, []))
            mask_files.write_labels(self._path(number, 'given'), labels)
            self.given[number] = sorted(ids & set(self.ids()))
            self.store(number, labels)
            self.save()

    def forget(self, number):
        """Removes what was painted in a frame, and its mask."""
        with self._lock:
            self.given.pop(number, None)
            self.masked.discard(number)
            self.save()
            for kind in ('given', 'masks'):
                self._path(number, kind).unlink(missing_ok=True)

    def store(self, number, labels):
        """Keeps a mask that was found; of objects that were removed meanwhile nothing is left."""
        known = np.zeros(256, np.uint8)
        with self._lock:
            known[self.ids()] = self.ids()
            labels = known[labels]
            mask_files.write_labels(self._path(number), labels)
            self.masked.add(number)
            self.version += 1

    def corrected(self, number, found):
        """What holds in a frame for which labels were found: painted parts come first.

        Args:
          number: of the frame.
          found: u8[H, W].

        Returns:
          u8[H, W]; `found` itself where nothing was painted.
        """
        painted = self.given_mask(number)
        if painted is None:
            return found
        labels, about = painted
        return np.where((labels > 0) | np.isin(found, about), labels, found).astype(np.uint8)

    def _clear(self, removed):
        self.given = {n: [i for i in ids if i not in removed] for n, ids in self.given.items()}
        for path in [*self._masks().glob('*.png'), *self._masks('given').glob('*.png')]:
            labels = mask_files.read_labels(path, self.size)
            is_removed = np.isin(labels, list(removed))
            if is_removed.any():
                mask_files.write_labels(path, np.where(is_removed, 0, labels).astype(np.uint8))

    def _masks(self, kind='masks'):
        return self.folder / kind

    def _path(self, number, kind='masks'):
        return self._masks(kind) / f'{number:05d}.png'


def read_file(folder):
    """Plain values of a project file.

    Raises:
      InputError: where it is damaged, or something else.
    """
    path = Path(folder) / FILE
    remedy = 'open the video anew'
    values = read_json(path, _FILE_FORM, remedy)
    with reading(path, 'a project file of the studio', remedy):
        if values['format'] != _FORMAT:
            raise ValueError(f'format {values["format"]}')
        values['objects'] = [_checked_object(one) for one in values['objects']]
        values['given'] = {str(int(n)): list(map(int, ids)) for n, ids in values['given'].items()}
    return values


def new_object(number):
    """An object with the next colour."""
    colour = COLOURS[(number - 1) % len(COLOURS)]
    return {'id': number, 'name': f'Object {number}', 'colour': colour}


def _checked_object(one):
    number, name, colour = one['id'], one['name'], one['colour']
    is_colour = len(colour) == 7 and colour[0] == '#' and int(colour[1:], 16) >= 0
    if not (isinstance(number, int) and 1 <= number <= 254 and is_colour):
        raise InputError(f'object {one}: needed: an id 1..254 and a colour as #ff5252')
    return {'id': number, 'name': str(name)[:60], 'colour': colour.lower()}
