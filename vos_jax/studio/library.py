"""The folder of the studio: uploaded videos and projects. Nothing outside of it is opened."""

import contextlib
import itertools
import os
import re
from pathlib import Path

from vos_jax.errors import InputError
from vos_jax.storage.atomic import remove_leftovers
from vos_jax.storage.damage import reading
from vos_jax.storage.disk import FolderLock
from vos_jax.studio import project as projects

VIDEO_SUFFIXES = (
    *('.mp4', '.m4v', '.mov', '.webm', '.mkv', '.avi', '.gif', '.mpg', '.mpeg'),
    *('.ogv', '.wmv', '.3gp', '.mts', '.ts', '.flv', '.webp'),
)


class Library:
    """Videos and projects below one folder, in which no other studio works at the same time.

    Attributes:
      folder: `videos/` holds uploads, `projects/NAME/` a project each; videos may also be in the
        folder itself.
    """

    def __init__(self, folder, max_upload_mb):
        self.folder = Path(folder).resolve()
        self.max_upload_bytes = int(max_upload_mb * 2**20)
        self._trusted = set()
        for name in ('videos', 'projects'):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(
            self.folder, 'end the studio that is open there, or name another --folder'
        )
        remove_leftovers(self.folder / 'videos')  # of uploads that were cut off

    def close(self):
        """Lets another studio in."""
        self._lock.close()

    def trust(self, path):
        """Allows a video outside, as named on the command line."""
        self._trusted.add(Path(path).resolve())

    def listing(self):
        """Plain values for the start page."""
        found = [self.folder, self.folder / 'videos']
        videos = [p for f in found for p in f.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES]
        videos = [p for p in videos if p.is_file() and p.name[0] != '.']
        return {
            'folder': str(self.folder),
            'videos': sorted(str(p.relative_to(self.folder)) for p in videos),
            'projects': self._projects(),
            'max_upload_bytes': self.max_upload_bytes,
            'suffixes': VIDEO_SUFFIXES,
        }

    def find_project(self, name):
        """(folder, path of its video) of a project of this name."""
        folder = self._project(name)
        if not (folder / projects.FILE).is_file():
            raise InputError(f'{name}: no such project')
        return folder, self._video(projects.read_file(folder)['video'])

    def find_video(self, path):
        """(folder, path) of a video: the folder of its project, or one for a new project."""
        video = self._video(path)
        for name in self._projects():
            with contextlib.suppress(InputError):
                folder = self._project(name)
                if Path(projects.read_file(folder)['video']) == video:
                    return folder, video
        return _free(self.folder / 'projects' / _plain(video.stem)), video

    def upload_path(self, name):
        """Where an upload of this name is kept: a name that is free, inside the folder."""
        name = _plain(name)
        if not name.lower().endswith(VIDEO_SUFFIXES):
            known = ' '.join(one[1:] for one in VIDEO_SUFFIXES)
            raise InputError(f'{name}: no video; known are {known}')
        return _free(self.folder / 'videos' / name)

    def _projects(self):
        files = (self.folder / 'projects').glob(f'*/{projects.FILE}')
        newest = sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent.name for path in newest]

    def _project(self, name):
        folder = self._resolved(Path('projects') / name)
        if not folder.is_relative_to(self.folder / 'projects'):
            raise InputError(f'{name}: outside of {self.folder}')
        return folder

    def _video(self, path):
        video = self._resolved(path)
        if video not in self._trusted and not video.is_relative_to(self.folder):
            raise InputError(
                f'{path}: outside of {self.folder}; upload it, or start with it: vos-studio {path}'
            )
        return video

    def _resolved(self, path):
        with reading(path, 'a path'):
            path = (self.folder / path).resolve()
            path.exists()  # raises for a name that no file can have
            return path


def _plain(name):
    """A file name without folders and without anything a shell or a page might take amiss."""
    name = re.sub(r'[^\w.-]+', '_', name.replace('\\', '/').rpartition('/')[2]).lstrip('.')
    # Room for a number and for the name of a temporary file, within 255 bytes.
    return name.encode()[-80:].decode(errors='ignore') or 'video'


def _free(path):
    """A path beside, with a number, where there is something at this one."""
    stem, suffix = os.path.splitext(path.name)
    numbers = itertools.count(2)
    while path.exists():
        path = path.with_name(f'{stem}-{next(numbers)}{suffix}')
    return path
