"""Downloads an archive of DAVIS: whole or not at all, with its checksum, resumed after an end."""

import hashlib
import os
import urllib.error
import urllib.request

from data_prep.builders import DATA_SETS
from vos_jax.errors import InputError
from vos_jax.storage.paths import local
from vos_jax.storage.progress import Progress

SERVER = 'https://data.vision.ee.ethz.ch/csergi/share/davis'
# sha256 and bytes as TensorFlow Datasets has recorded them for its own `davis`. Of test-dev no
# checksum is known to us: --sha256 gives one, and the one found is printed.
ARCHIVES = {
    'DAVIS-2017-trainval-480p.zip': (
        'e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492',
        832766765,
    ),
    'DAVIS-2017-trainval-Full-Resolution.zip': (
        '519494b320e7a333b98188e0f44e028f379c3312a1fc1a3e8bddd64b2c9ecfaf',
        2956935323,
    ),
    'DAVIS-2017-test-dev-480p.zip': (None, None),
}
_PIECE = 1 << 20


def download_davis(name, folder, *, splits=(), resolution='', server=SERVER, sha256=None):
    """Downloads the archives that DAVIS 2016 or 2017 needs; gives their paths.

    Args:
      name: 'davis2016' or 'davis2017'.
      folder: where the archives go.
      splits: those wanted; 'test_dev' has an archive of its own.
      resolution: 'Full-Resolution', or '' for 480p.
      server: URL of the folder of the archives.
      sha256: of the first archive, instead of the known one.
    """
    if not name.startswith('davis'):
        raise InputError(
            f'{name}: only DAVIS can be downloaded by a program; get the archives from '
            f'{DATA_SETS[name].homepage} and give them as --source'
        )
    kind = 'Full-Resolution' if resolution == 'Full-Resolution' else '480p'
    archives = [f'DAVIS-2017-trainval-{kind}.zip']
    if name == 'davis2017' and 'test_dev' in splits:
        archives.append('DAVIS-2017-test-dev-480p.zip')
    paths = []
    for archive in archives:
        progress = Progress(f'bytes of {archive}')
        expected = sha256 if archive == archives[0] else None
        url = f'{server.rstrip("/")}/{archive}'
        path, found = download(url, folder, expected, progress.reach)
        print(f'{path}: sha256 {found}', flush=True)
        paths.append(path)
    return paths


def download(url, folder, sha256=None, show=lambda num_bytes, total: None):
    """Downloads a file into a folder, under its own name; gives (path, sha256 found).

    Args:
      sha256: what it must have; None: that of `ARCHIVES`, if any.
      show: called with the bytes there are and, where the server says, those there will be.
    """
    name = url.rpartition('/')[2]
    path = local(folder, '--download_dir') / name
    expected = sha256 or ARCHIVES.get(name, (None, None))[0]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'.{name}.part')
        _fetch(url, part, show)
        _check(part, expected, url)
        os.replace(part, path)
    return path, _check(path, expected, url)


def _fetch(url, part, show):
    there = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={there}-'} if there else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            there = there if answer.status == 206 else 0
            length = answer.headers.get('Content-Length')
            total = there + int(length) if length else None
            end = _append(answer, part, there, lambda size: show(size, total))
        if total is not None and end != total:
            raise InputError(f'{url}: ended after {end} of {total} bytes; run again to resume')
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is the whole file
            return
        raise InputError(
            f'{url}: {error}; give another --url, or the archive as --source'
        ) from None
    except OSError as error:
        raise InputError(f'{url}: {error}; run again to resume, or give it as --source') from None


def _append(answer, part, start, show):
    """Writes what a server answers into a file from a byte on; gives the size of the file."""
    with open(part, 'r+b' if start else 'wb') as file:
        file.seek(start)
        while piece := answer.read(_PIECE):
            file.write(piece)
            show(file.tell())
        return file.tell()


def _check(path, expected, url):
    with open(path, 'rb') as file:
        found = hashlib.file_digest(file, 'sha256').hexdigest()
    if expected and found != expected:
        path.unlink()
        raise InputError(
            f'{url}: sha256 is {found}, must be {expected}; the file was deleted, download it again'
        )
    return found
