"""Files of a data set as published: in folders, zip or tar archives, read alike."""

import dataclasses
import functools
import os
import tarfile
import zipfile
from pathlib import Path

from vos_jax.errors import InputError

_PACKED_TARS = ('.tgz', '.tar.gz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')
ARCHIVES = ('.zip', '.tar', *_PACKED_TARS)


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, wherever it lies.

    Attributes:
      place: path of the file, or of the archive that holds it.
      member: name inside of a zip archive.
      offset: where it starts inside of a tar archive.
      size: bytes.
    """

    place: str
    member: str = ''
    offset: int = -1
    size: int = 0

    def __str__(self):
        return f'{self.place}:{self.member}' if self.member else self.place

    def read(self):
        """Reads the content, as bytes."""
        try:
            if self.offset >= 0:
                with open(self.place, 'rb') as archive:
                    return os.pread(archive.fileno(), self.size, self.offset)
            if self.member:
                return _open_zip(self.place).read(self.member)
            return Path(self.place).read_bytes()
        except (OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
            raise InputError(f'{self}: cannot be read ({error}); copy it again') from None


class FileTree:
    """All files below some folders and archives, by their names in them.

    Archives that lie in a folder belong to it, as if unpacked there: a folder with train.zip and
    valid.zip is a whole YouTube-VOS. Of equal names the first wins.

    Args:
      sources: paths of folders or archives.
      scratch: folder to unpack compressed tar archives in, which cannot be read at any place.
    """

    def __init__(self, sources, scratch=None):
        self.sources = tuple(map(str, sources))
        self._scratch = scratch
        self._folders = {}
        for source in sources:
            self._add(Path(source))
        if not self._folders:
            raise InputError(f'{", ".join(self.sources)}: no files in it; give the data set')

    def folder(self, name):
        """Files directly in a folder: dict of name -> File; empty where there is none."""
        return self._folders.get(name, {})

    def folders(self):
        """Names of all folders that hold files."""
        return sorted(self._folders)

    def folders_below(self, name):
        """Names of the folders directly in a folder that hold files themselves, sorted."""
        start = f'{name}/' if name else ''
        below = (key[len(start) :] for key in self._folders if key.startswith(start))
        return sorted(key for key in below if key and '/' not in key)

    def find(self, ending):
        """Folders whose name is `ending` or ends in it, the shortest first."""
        found = (k for k in self._folders if k == ending or k.endswith(f'/{ending}'))
        return sorted(found, key=lambda name: (name.count('/'), name))

    def with_file(self, name):
        """Folders that hold a file of this name, the shortest first."""
        found = (key for key, files in self._folders.items() if name in files)
        return sorted(found, key=lambda folder: (folder.count('/'), folder))

    def _add(self, source):
        if source.is_dir():
            self._add_folder(source)
        elif not source.exists():
            raise InputError(f'{source}: no such folder or archive; give the data set')
        elif source.name.endswith('.zip'):
            self._add_zip(source)
        elif source.name.endswith('.tar'):
            self._add_tar(source)
        elif source.name.endswith(_PACKED_TARS):
            self._add_packed(source)
        else:
            raise InputError(f'{source}: neither a folder nor one of {", ".join(ARCHIVES)}')

    def _add_folder(self, root):
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            where = Path(folder).relative_to(root).as_posix()
            for name in sorted(names):
                place = os.path.join(folder, name)
                if Path(folder) == root and name.endswith(ARCHIVES):
                    self._add(Path(place))
                else:
                    size = os.path.getsize(place)
                    self._put(name if where == '.' else f'{where}/{name}', File(place, size=size))

    def _add_zip(self, path):
        for info in _open_zip(str(path)).infolist():
            if not info.is_dir():
                self._put(info.filename, File(str(path), info.filename, size=info.file_size))

    def _add_tar(self, path):
        try:
            with tarfile.open(path, 'r:') as archive:
                for info in archive:
                    if info.isfile():
                        file = File(str(path), info.name, info.offset_data, info.size)
                        self._check_end(file)
                        self._put(info.name, file)
        except tarfile.TarError as error:
            raise InputError(f'{path}: no whole tar archive ({error}); copy it again') from None

    def _add_packed(self, path):
        if self._scratch is None:
            raise InputError(f'{path}: a compressed tar archive is not read here; unpack it first')
        target = Path(self._scratch) / path.name
        try:
            if not target.exists():
                part = target.with_name(f'{target.name}.part')
                with tarfile.open(path) as archive:
                    archive.extractall(part, filter='data')
                part.rename(target)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f'{path}: cannot be unpacked ({error}); copy it again') from None
        self._add_folder(target)

    def _check_end(self, file):
        if file.offset + file.size > os.path.getsize(file.place):
            raise InputError(f'{file}: the archive ends inside of it; copy the archive again')

    def _put(self, name, file):
        name = name.removeprefix('./')
        folder, _, own = name.rpartition('/')
        if not any(map(_is_hidden, name.split('/'))):
            self._folders.setdefault(folder, {}).setdefault(own, file)


def _is_hidden(name):
    return name.startswith(('.', '__MACOSX'))


@functools.lru_cache(maxsize=8)
def _open_zip(path):
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f'{path}: no whole zip archive ({error}); copy it again') from None
