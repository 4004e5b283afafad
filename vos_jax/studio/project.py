"""One video with its objects and masks, those painted and those found. All of it on disk."""

import contextlib
import re
import threading
from pathlib import Path

import numpy as np

from vos_jax.data import masks as mask_files
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.atomic import remove_leftovers
from vos_jax.storage.damage import reading
from vos_jax.storage.disk import FolderLock
from vos_jax.storage.json_files import read_json, write_json
from vos_jax.storage.palette import COLOURS, VOID
from vos_jax.studio.frames import FrameStore
from vos_jax.studio.requests import Refused
from vos_jax.video.reader import open_video

FILE = 'project.json'
MAX_OBJECTS = 60  # a mask with more values than masks.MAX_VALUES is taken for an anti-aliased one
OBJECTS_FORM = [{'id': int, 'name': str, 'colour': str}]
_FORMAT = 2  # 1 had no checksum
_FILE_FORM = {
    'format': int,
    'video': str,
    'objects': OBJECTS_FORM,
    'given': {str: [int]},
    'removed?': [int],
    'checksum?': int,
}


class Project:
    """A folder with `project.json`, `given/` (painted masks), `masks/` (all masks) and `frames/`.

    It may be new; `video` is a path. Masks are u8[H, W] ids in the size of the stored frames. A
    painted mask says the whole truth about the objects it is about (`given`): those that were there
    when it was painted, or are now. Others, which come to that frame later, stay. One process at a
    time has a project open.

    Who changes a mask or the objects may say which version has been seen: where it is no longer
    the present one, the change is refused (409) and nothing is lost.
    """

    def __init__(self, folder, video):
        self.folder = Path(folder)
        self._origin = checksum.of_bytes(str(self.folder).encode())
        self._lock = threading.RLock()
        self.video = open_video(video)
        self.frames = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held = FolderLock(self.folder, 'close this project in the other studio first')
        try:
            self._restore()
        except (InputError, OSError):
            self.close()
            raise

    def _restore(self):
        for part in ('', 'given', 'masks', 'frames', 'results', 'results/masks'):
            remove_leftovers(self.folder / part)
        stored = read_file(self.folder) if (self.folder / FILE).is_file() else {}
        self.objects = stored.get('objects') or [new_object(1)]
        self.given = {int(n): ids for n, ids in stored.get('given', {}).items()}
        self.frames = FrameStore(self.folder / 'frames', self.video)
        self.size = self.frames.size
        masks = (path.stem for path in self.folder.glob('masks/*.png'))
        self.masked = {int(stem) for stem in masks if re.fullmatch('[0-9]{5,7}', stem)}
        self._clear(set(stored.get('removed', ())))
        self.save()

    def close(self):
        """Ends the reading; nothing is written any more, and others may open the folder."""
        if self.frames is not None:
            self.frames.close()
        with self._lock:
            if self._held is not None:
                self._held.close()
            self._held = None

    def save(self, objects=None, given=None, removed=()):
        """Writes project.json with new objects or given, which count from then on.

        `removed`: ids that are still to be removed from masks.
        """
        with self._writing():
            objects = self.objects if objects is None else objects
            given = self.given if given is None else given
            values = {
                'format': _FORMAT,
                'video': str(self.video.path.resolve()),
                'objects': objects,
                'given': {str(number): ids for number, ids in sorted(given.items())},
                'removed': sorted(removed),
            }
            write_json(self.folder / FILE, checksum.seal(values))
            self.objects, self.given = objects, given

    def version_of(self, state):
        """Names a state, in a few characters: of a mask as `mask` gives it, or of `objects`."""
        data = repr(state).encode() if isinstance(state, list) else state
        return f'{checksum.of_bytes(b"" if data is None else data, self._origin):08x}'

    def check_frame(self, number):
        """Refuses the number of a frame that is not there."""
        if not 0 <= number < self.frames.count:
            raise InputError(f'frame {number}: the video has {self.frames.count} frames so far')

    def ids(self):
        return [one['id'] for one in self.objects]

    def set_objects(self, objects, seen=None):
        """Takes the whole list of objects and gives its version; masks of removed ones are cleared.

        `seen`: version of the list that it was made from, or None: whatever there is.
        """
        objects = [_checked_object(one) for one in objects]
        ids = [one['id'] for one in objects]
        if not ids or len(set(ids)) < len(ids) or len(ids) > MAX_OBJECTS:
            raise InputError(f'objects: 1 to {MAX_OBJECTS}, each with an id of its own')
        with self._writing():
            self._check_seen(seen, self.objects, objects, 'the list of objects')
            removed = set(self.ids()) - set(ids)
            given = {n: [i for i in g if i not in removed] for n, g in self.given.items()}
            # Where this is killed before the end, opening goes on with it.
            self.save(objects, given, removed)
            if removed:
                self._clear(removed)
                self.save()
            return self.version_of(objects)

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

    def paint(self, number, labels, seen=None):
        """Takes a mask of a frame, u8[H, W], that a person painted; `seen` as for `set_objects`."""
        self.check_frame(number)
        ids = set(mask_files.object_ids(labels).tolist())
        with self._writing():
            before = self.mask(number)
            self._check_seen(seen, before, labels, f'the mask of frame {number}')
            unknown = ids - set(self.ids())
            if unknown or np.any(labels == VOID):
                wrong = sorted(unknown) or [VOID]
                raise InputError(f'mask with ids {wrong}, which are no objects here')
            if before is not None:
                ids |= set(mask_files.object_ids(before).tolist())
            ids |= set(self.given.get(number, []))
            mask_files.write_labels(self._path(number, 'given'), labels)
            self._write(number, labels)
            self.save(given={**self.given, number: sorted(ids & set(self.ids()))})

    def forget(self, number, seen=None):
        """Removes what was painted in a frame, and its mask; `seen` as for `set_objects`."""
        with self._writing():
            self._check_seen(seen, self.mask(number), None, f'the mask of frame {number}')
            self.save(given={n: ids for n, ids in self.given.items() if n != number})
            self.masked = self.masked - {number}
            for kind in ('given', 'masks'):
                self._path(number, kind).unlink(missing_ok=True)

    def store(self, number, found):
        """Keeps a mask that was found, u8[H, W]; what was painted there stays."""
        with self._writing():
            painted = self.given_mask(number)
            if painted is not None:
                labels, about = painted
                found = np.where((labels > 0) | np.isin(found, about), labels, found)
            self._write(number, found)

    def _write(self, number, labels):
        """Writes a mask; of objects that were removed meanwhile nothing is left."""
        known = np.zeros(256, np.uint8)
        known[self.ids()] = self.ids()
        mask_files.write_labels(self._path(number), known[labels])
        self.masked = self.masked | {number}  # another set: threads go through the one before

    @contextlib.contextmanager
    def _writing(self):
        """One change at a time, and none once another process may have the folder."""
        with self._lock:
            if self._held is None:
                raise Refused(409, f'{self.folder.name} is closed: open it again')
            yield

    def _check_seen(self, seen, now, wanted, what):
        """Refuses a change of what nobody has seen; one that is made already is none."""
        versions = [self.version_of(state) for state in (now, wanted)]
        if seen not in (None, versions[0]) and versions[0] != versions[1]:
            raise Refused(
                409,
                f'{what} was changed meanwhile, in another tab or by following: look at it as it '
                'is now, and change it again',
            )

    def _clear(self, removed):
        """Takes ids out of all masks."""
        files = [path for kind in ('masks', 'given') for path in self.folder.glob(f'{kind}/*.png')]
        for path in files if removed else ():
            labels = mask_files.read_labels(path, self.size)
            is_removed = np.isin(labels, list(removed))
            if is_removed.any():
                mask_files.write_labels(path, np.where(is_removed, 0, labels).astype(np.uint8))

    def _path(self, number, kind='masks'):
        return self.folder / kind / f'{number:05d}.png'


def read_file(folder):
    """Plain values of a project file; InputError where it is damaged, or something else."""
    path = Path(folder) / FILE
    remedy = 'open the video again'
    values = read_json(path, _FILE_FORM, remedy)
    with reading(path, 'a project file of the studio', remedy):
        if values['format'] not in (1, _FORMAT):
            raise ValueError(f'format {values["format"]}')
        if (values['format'] == _FORMAT) != ('checksum' in values) or not checksum.is_whole(values):
            raise ValueError('it differs from its checksum')
        values['objects'] = [_checked_object(one) for one in values['objects']]
        values['given'] = {str(int(n)): list(map(int, ids)) for n, ids in values['given'].items()}
    return values


def new_object(number):
    """An object with the next colour."""
    colour = COLOURS[(number - 1) % len(COLOURS)]
    return {'id': number, 'name': f'Object {number}', 'colour': colour}


def _checked_object(one):
    number, name, colour = one['id'], one['name'], one['colour']
    if not (1 <= number <= 254 and re.fullmatch('#[0-9a-fA-F]{6}', colour)):
        raise InputError(f'object {name[:60]}: needed: an id 1..254 and a colour as #ff5252')
    return {'id': number, 'name': name[:60], 'colour': colour.lower()}
