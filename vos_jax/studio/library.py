"""The folder of the studio: uploaded videos and projects. Nothing outside of it is opened."""

import contextlib
import os
import re
from pathlib import Path

from vos_jax.errors import InputError
from vos_jax.studio import project as projects

VIDEO_SUFFIXES = (
    *('.mp4', '.m4v', '.mov', '.webm', '.mkv', '.avi', '.gif', '.mpg', '.mpeg'),
    *('.ogv', '.wmv', '.3gp', '.mts', '.ts', '.flv', '.webp'),
)


class Library:
    """Videos and projects below one folder.

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
        for left in (self.folder / 'videos').glob('.*.part'):  # of an upload that was cut off
            left.unlink()

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

    def open_project(self, name):
        """The project of this name."""
        folder = self._inside(Path('projects') / name)
        if not (folder / projects.FILE).is_file():
            raise InputError(f'{name}: no such project')
        video = projects.read_file(folder)['video']
        return projects.Project(folder, self.video(video))

    def open_video(self, path):
        """The project of a video: the one there is, or a new one."""
        video = self.video(path)
        for name in self._projects():
            with contextlib.suppress(InputError):
                folder = self.folder / 'projects' / name
                if Path(projects.read_file(folder)['video']) == video:
                    return projects.Project(folder, video)
        return projects.Project(self._free_folder(video.stem), video)

    def video(self, path):
        """Path of a video that may be opened."""
        wanted = (self.folder / path).resolve()
        if wanted in self._trusted or wanted.is_relative_to(self.folder):
            return wanted
        raise InputError(
            f'{path}: outside of {self.folder}; upload it, or start with it: '
            f'python -m vos_jax.commands.studio {path}'
        )

    def upload_path(self, name):
        """Where an upload of this name is kept: a name that is free, inside the folder."""
        stem, suffix = os.path.splitext(_plain(name))
        if suffix.lower() not in VIDEO_SUFFIXES:
            known = ' '.join(one[1:] for one in VIDEO_SUFFIXES)
            raise InputError(f'{name}: no video; known are {known}')
        path, count = self.folder / 'videos' / f'{stem}{suffix}', 1
        while path.exists():
            count += 1
            path = path.with_name(f'{stem}-{count}{suffix}')
        return path

    def _projects(self):
        files = (self.folder / 'projects').glob(f'*/{projects.FILE}')
        newest = sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent.name for path in newest]

    def _free_folder(self, stem):
        folder, count = self.folder / 'projects' / _plain(stem), 1
        while folder.exists():
            count += 1
            folder = folder.with_name(f'{_plain(stem)}-{count}')
        return folder

    def _inside(self, path):
        path = (self.folder / path).resolve()
        if not path.is_relative_to(self.folder / 'projects'):
            raise InputError(f'{path}: outside of {self.folder}')
        return path


def _plain(name):
    """A file name without folders and without anything a shell or a page might take amiss."""
    name = re.sub(r'[^\w.-]+', '_', name.replace('\\', '/').rpartition('/')[2]).lstrip('.')
    return name[-80:] or 'video'
