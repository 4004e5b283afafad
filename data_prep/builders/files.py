"""Files of a data set as published: in folders, zip or tar archives, read alike."""

import dataclasses
import functools
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

from vos_jax.data.frames import SUFFIXES
from vos_jax.data.listing import by_stem, check_link, hint_among, is_hidden
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.damage import reading

_PIECE = 1 << 20
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ZIP_END = 22  # bytes of the record at the end, before a comment
_PACKED_TARS = ('.tgz', '.tar.gz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')
ARCHIVES = ('.zip', '.tar', *_PACKED_TARS)


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, wherever it is.

    Attributes:
      place: path of the file, or of the archive that holds it.
      member: name inside of an archive.
      offset: where it starts inside of a tar archive.
    """

    place: str
    member: str = ''
    offset: int = -1
    size: int = 0

    def __str__(self):
        return f'{self.place}:{self.member}' if self.member else self.place

    def read_bytes(self, most=-1):
        """The content, or the begin of it."""
        with reading(self, 'whole'):
            if self.offset >= 0:
                with open(self.place, 'rb') as archive:
                    size = self.size if most < 0 else min(most, self.size)
                    return os.pread(archive.fileno(), size, self.offset)
            if self.member:
                with _open_zip(self.place).open(self.member) as file:
                    return file.read(most)
            check_link(self.place)
            with open(self.place, 'rb') as file:
                return file.read(most)


class FileTree:
    """All files below some folders and archives, by their names in them.

    Archives in a folder belong to it, as if unpacked there: a folder with train.zip and
    valid.zip is a whole YouTube-VOS. Of equal names the first wins. Compressed tar archives, which
    cannot be read at any place, are unpacked in the folder `scratch`.
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
        spellings = (name, *(unicodedata.normalize(form, name) for form in ('NFC', 'NFD')))
        found = next((self._folders[one] for one in spellings if one in self._folders), {})
        for path in () if found else (PurePosixPath(name), *PurePosixPath(name).parents):
            parent = self._folders.get(str(path.parent).removeprefix('.'))
            if parent and path.name in parent:  # a link to a folder, which leads nowhere
                check_link(parent[path.name].place)
        return found

    def pictures(self, images, annotations):
        """Frames, one or more, and masks of two folders by their stems."""
        frames = by_stem(self.folder(images), SUFFIXES, images)
        if not frames:
            above, _, own = images.rpartition('/')
            hint = hint_among((own,), self.folders_below(above))
            raise InputError(f'{images}: no frames in it{hint}')
        return frames, by_stem(self.folder(annotations), ('.png',), annotations)

    def folders(self):
        return sorted(self._folders)

    def folders_below(self, name):
        """Names of all folders below a folder that hold files themselves, as 'a' or 'x/a'."""
        start = f'{name}/' if name else ''
        return sorted(key[len(start) :] for key in self._folders if key.startswith(start) and key)

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
        elif source.name.lower().endswith('.zip'):
            self._add_zip(source)
        elif source.name.lower().endswith('.tar'):
            self._add_tar(source)
        elif source.name.lower().endswith(_PACKED_TARS):
            self._add_packed(source)
        else:
            raise InputError(f'{source}: neither a folder nor one of {", ".join(ARCHIVES)}')

    def _add_folder(self, root):
        for folder, folders, names in os.walk(root, followlinks=True):
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            for name in folders:
                _refuse_loop(os.path.join(folder, name))
            where = Path(folder).relative_to(root).as_posix()
            for name in sorted(name for name in names if not is_hidden(name)):
                place = os.path.join(folder, name)
                if Path(folder) == root and name.lower().endswith(ARCHIVES):
                    self._add(Path(place))
                    continue
                if os.path.islink(place) and not os.path.exists(place):  # reported when it is read
                    self._put(name if where == '.' else f'{where}/{name}', File(place))
                    continue
                with reading(place, 'a file', 'remove this link, or copy what it leads to'):
                    about = os.stat(place)
                if stat.S_ISREG(about.st_mode):
                    name = name if where == '.' else f'{where}/{name}'
                    self._put(name, File(place, size=about.st_size))

    def _add_zip(self, path):
        for info in _open_zip(str(path)).infolist():
            if info.is_dir():
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                _refuse_link(path, info.filename)
            if info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
                raise InputError(
                    f'{path}: {info.filename} is encrypted or packed by an unknown method; unpack '
                    'the archive and give the folder'
                )
            name = info.filename.replace('\\', '/')  # as some programs of Windows write it
            self._put(name, File(str(path), info.filename, size=info.file_size))

    def _add_tar(self, path):
        with reading(path, 'a whole tar archive'):
            with tarfile.open(path, 'r:') as archive:
                files = {info.name: info for info in archive if _is_file(info)}
                _check_end(archive)
            for name, info in files.items():
                if info.issym():
                    _refuse_link(path, name)
                found = files[info.linkname] if info.islnk() else info
                self._put(name, File(str(path), name, found.offset_data, found.size))

    def _add_packed(self, path):
        if self._scratch is None:
            raise InputError(f'{path}: a compressed tar archive is not read here; unpack it first')
        about = path.stat()
        # Named for this very archive: another one of the same name is unpacked again.
        identity = checksum.of_bytes(f'{about.st_size} {about.st_mtime_ns}'.encode())
        target = Path(self._scratch) / f'{path.name}-{identity:08x}'
        if not target.exists():
            part = target.with_name(f'{target.name}.part')
            shutil.rmtree(part, ignore_errors=True)
            try:
                _unpack(path, part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        self._add_folder(target)

    def _put(self, name, file):
        name = name.removeprefix('./')
        folder, _, own = name.rpartition('/')
        if not any(map(is_hidden, name.split('/'))):
            self._folders.setdefault(folder, {}).setdefault(own, file)


def _is_file(info):
    return info.isfile() or info.islnk() or info.issym()


def _refuse_link(path, name):
    if not any(map(is_hidden, name.split('/'))):
        raise InputError(f'{path}: {name} is a link; unpack the archive, and give the folder')


def _refuse_loop(folder):
    """A link to one of the folders above it would be walked for ever."""
    if not os.path.islink(folder):
        return
    above = os.path.realpath(os.path.dirname(folder))
    target = os.path.realpath(folder)
    if f'{above}/'.startswith(f'{target}/'):
        raise InputError(f'{folder}: a link to a folder above it; remove it')


def _unpack(path, folder):
    """Unpacks the files of a compressed tar archive; what its end says of the whole is compared."""
    with reading(path, 'a whole tar archive'), tarfile.open(path) as archive:
        for info in archive:
            if info.issym():
                _refuse_link(path, info.name)
            elif _is_file(info):
                archive.extract(info, folder, filter='data')
        _check_end(archive)


def _check_end(archive):
    """Reads on to the end of a tar archive: two empty blocks, and nothing but zeros after them.

    tarfile takes a damaged header for the end. Of a compressed archive the checksum of the whole
    stream is compared at its end.
    """
    archive.fileobj.seek(archive.offset)
    num_bytes = 0
    while block := archive.fileobj.read(_PIECE):
        if block.strip(b'\0'):
            raise ValueError(f'damaged at byte {archive.offset}, the members after it are lost')
        num_bytes += len(block)
    if num_bytes < 2 * tarfile.BLOCKSIZE:
        raise EOFError(f'cut off after {archive.offset} bytes')


@functools.lru_cache(maxsize=8)
def _open_zip(path):
    with reading(path, 'a whole zip archive'):
        archive = zipfile.ZipFile(path)
        # Its end says how many members there are; zipfile does not miss those that damage hides.
        archive.fp.seek(-_ZIP_END - len(archive.comment), os.SEEK_END)
        stated = int.from_bytes(archive.fp.read(_ZIP_END)[10:12], 'little')
        found = len(archive.infolist())
        if stated not in (0xFFFF, found & 0xFFFF):  # that number: the count is elsewhere
            raise zipfile.BadZipFile(f'{found} of {stated} members found')
        return archive
