"""What the disk refuses is one line, with the place and the reason."""

import errno
import os
import tempfile

import pytest

from vos_jax.errors import InputError
from vos_jax.storage import disk


def test_probing_a_folder_leaves_nothing(tmp_path):
    disk.prepare_folder(tmp_path / 'a' / 'b')
    assert not list(tmp_path.iterdir())
    (tmp_path / 'a').mkdir()
    disk.prepare_folder(tmp_path / 'a')
    assert not list((tmp_path / 'a').iterdir())


def unwritable(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    (tmp_path / 'loop').symlink_to('loop')
    return {
        'a file': tmp_path / 'file',
        'below a file': tmp_path / 'file' / 'out',
        'a link to itself': tmp_path / 'loop',
        'a long name': tmp_path / ('x' * 300),
        'below /proc': '/proc/none/out',
        'a zero byte': 'a\0b',
    }


@pytest.mark.parametrize(
    'kind',
    [
        'a file',
        'below a file',
        'a link to itself',
        'a long name',
        'below /proc',
        'a zero byte',
    ],
)
def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, kind):
    with pytest.raises(InputError, match=r'cannot be written \(.*\); name another --out$'):
        disk.prepare_folder(unwritable(tmp_path)[kind])


def test_a_folder_instead_of_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match='a folder; name a file with --out'):
        disk.prepare_file(tmp_path)
    with pytest.raises(InputError, match=r'cannot be written \(File name too long\)'):
        disk.prepare_file(tmp_path / ('x' * 300))
    disk.prepare_file(tmp_path / 'new' / 'a.npz')
    assert not list(tmp_path.iterdir())


def test_empty_folders_are_removed_and_files_stay(tmp_path):
    for name in ('a/b/c', 'a/d', 'e'):
        (tmp_path / 'run' / name).mkdir(parents=True)
    (tmp_path / 'run/e/file').touch()
    disk.remove_empty_folders(tmp_path / 'run')
    assert sorted(path.name for path in (tmp_path / 'run').iterdir()) == ['e']
    (tmp_path / 'run/e/file').unlink()
    disk.remove_empty_folders(tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def refused(number, path=None):
    return OSError(number, os.strerror(number), path and str(path))


@pytest.mark.parametrize(
    'error',
    [
        refused(errno.ENOSPC),
        refused(errno.ENOSPC, 'out/a/b.png'),
        refused(errno.EACCES, 'out/a'),
        refused(errno.ENOTDIR, '.'),
        OSError(errno.ENOSPC, 'of copying', 'video/0.mp4', None, 'out/0.mp4'),
        ValueError('RESOURCE_EXHAUSTED: Error writing "out/0.0": No space left on device [OS 28]'),
        RuntimeError('Failed to write: No space left on device'),
    ],
    ids=str,
)
def test_an_error_below_the_output_is_one_line(error):
    with (
        pytest.raises(InputError, match=r'cannot be written \(.*\); make room'),
        disk.explain_disk_errors('out'),
    ):
        raise error


@pytest.mark.parametrize(
    'error',
    [
        refused(errno.EACCES, 'video/00000.jpg'),
        refused(errno.EACCES),
        refused(errno.EPIPE, 'out/a'),
        ValueError('a defect'),
        RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes'),
    ],
    ids=str,
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as found, disk.explain_disk_errors('out'):
        raise error
    assert found.value is error


@pytest.mark.parametrize('name', [None, 'vos_jax-a/b.png'])
def test_a_full_folder_for_temporary_files_is_named_instead_of_the_bucket(tmp_path, name):
    error = refused(errno.ENOSPC, name and os.path.join(tempfile.gettempdir(), name))
    place = name or tempfile.gettempdir()
    with (
        pytest.raises(InputError, match=rf'^(?!gs).*{place}: .* make room or name another TMPDIR'),
        disk.explain_disk_errors('gs://bucket/run', '--workdir'),
    ):
        raise error


def test_a_file_that_ffmpeg_names_as_a_url_is_below_its_folder(tmp_path):
    with (
        pytest.raises(InputError, match=r'a\.mp4: cannot be written \(File too large\)'),
        disk.explain_disk_errors(tmp_path),
    ):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), f'file:{tmp_path / "a.mp4"}')
