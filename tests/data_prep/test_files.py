"""Files of data sets in folders and archives: all of them are read, or one line says why not."""

import io
import os
import tarfile
import zipfile

import pytest

from data_prep.builders.files import FileTree
from data_prep.prepare import prepare
from vos_jax.errors import InputError

NAMES = [f'set/{number:02d}.png' for number in range(20)]


def content(name):
    return name.encode() * 100


def tar(path, names=NAMES, mode='w', **options):
    with tarfile.open(path, mode, **options) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content(name))
            archive.addfile(info, io.BytesIO(content(name)))
    return path


def zipped(path, names=NAMES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, 'w', method) as archive:
        for name in names:
            archive.writestr(name, content(name))
    return path


def read(tree):
    return {f'{folder}/{name}': tree.folder(folder)[name].read_bytes() for folder in tree.folders()
            for name in tree.folder(folder)}  # fmt: skip


WHOLE = {name: content(name) for name in NAMES}


@pytest.mark.parametrize(
    'name', ['a.tar', 'a.tar.gz', 'a.tgz', 'a.tar.bz2', 'a.tar.xz', 'a.zip'], ids=str
)
def test_all_files_of_an_archive_are_read(tmp_path, name):
    path = tmp_path / name
    ending = {'gz': 'gz', 'tgz': 'gz', 'bz2': 'bz2', 'xz': 'xz'}.get(name.rpartition('.')[2], '')
    zipped(path) if name == 'a.zip' else tar(path, mode=f'w:{ending}')
    assert read(FileTree([path], tmp_path / 'scratch')) == WHOLE


@pytest.mark.parametrize('kept', [0.3, 0.5, 0.7])
@pytest.mark.parametrize('ending', ['', 'gz', 'xz', 'bz2'])
def test_a_tar_that_is_cut_is_refused(tmp_path, kept, ending):
    path = tar(tmp_path / f'a.tar{ending and "."}{ending}', mode=f'w:{ending}')
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match=r'a\.tar.*: not a whole tar archive .*; copy it again'):
        FileTree([path], tmp_path / 'scratch')
    assert not (tmp_path / 'scratch').exists() or not list((tmp_path / 'scratch').iterdir())


@pytest.mark.parametrize('ending', ['', 'gz'])
def test_a_tar_that_is_cut_at_the_end_of_a_member_is_refused(tmp_path, ending):
    whole = tar(tmp_path / 'whole.tar')
    with tarfile.open(whole) as archive:
        end = archive.getmembers()[10].offset
    (tmp_path / 'a.tar').write_bytes(whole.read_bytes()[:end])
    path = tmp_path / 'a.tar'
    if ending:
        import gzip

        path = tmp_path / 'a.tar.gz'
        path.write_bytes(gzip.compress((tmp_path / 'a.tar').read_bytes()))
    with pytest.raises(InputError, match='cut off after'):
        FileTree([path], tmp_path / 'scratch')


@pytest.mark.parametrize('where', [0, 100, 148, 156])
def test_a_flipped_bit_in_a_header_loses_no_file_without_a_word(tmp_path, where):
    path = tar(tmp_path / 'a.tar')
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[10].offset
    data = bytearray(path.read_bytes())
    data[offset + where] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match='the members after it are lost'):
        FileTree([path])


def test_a_flipped_bit_in_a_packed_tar_is_noticed_at_its_end(tmp_path):
    path = tar(tmp_path / 'a.tar.xz', mode='w:xz')
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # of the index, behind all data
    path.write_bytes(data)
    with pytest.raises(InputError, match='not a whole tar archive'):
        FileTree([path], tmp_path / 'scratch')
    assert not list((tmp_path / 'scratch').glob('*'))


def test_another_archive_of_the_same_name_is_unpacked_again(tmp_path):
    path = tar(tmp_path / 'a.tar.gz', NAMES[:3], 'w:gz')
    assert len(read(FileTree([path], tmp_path / 'scratch'))) == 3
    tar(path, mode='w:gz')
    assert read(FileTree([path], tmp_path / 'scratch')) == WHOLE


def test_hard_links_in_a_tar_are_files(tmp_path):
    path = tmp_path / 'a.tar'
    tar(path)
    with tarfile.open(path, 'a') as archive:
        info = tarfile.TarInfo('set/link.png')
        info.type, info.linkname = tarfile.LNKTYPE, NAMES[3]
        archive.addfile(info)
    assert read(FileTree([path]))['set/link.png'] == content(NAMES[3])


def test_a_zip_whose_list_hides_members_is_refused(tmp_path):
    path = zipped(tmp_path / 'a.zip')
    data = bytearray(path.read_bytes())
    entry = data.index(b'PK\x01\x02')
    data[entry + 32] = 46 + len(NAMES[1])  # its comment is as long as the next entry
    path.write_bytes(data)
    with pytest.raises(InputError, match=r'a\.zip: .*19 of 20 members found'):
        FileTree([path])


def test_a_damaged_member_of_a_zip_is_one_line(tmp_path):
    path = zipped(tmp_path / 'a.zip')
    data = bytearray(path.read_bytes())
    start = data.index(b'set/05.png') + len('set/05.png')
    data[start : start + 8] = b'\xff' * 8
    path.write_bytes(data)
    file = FileTree([path]).folder('set')['05.png']
    with pytest.raises(InputError, match=r'a\.zip:set/05\.png: not whole .*; copy it again'):
        file.read_bytes()


@pytest.mark.parametrize(('offset', 'value'), [(8, 1), (10, 99)], ids=['encrypted', 'method'])
def test_an_encrypted_zip_and_an_unknown_method_are_one_line(tmp_path, offset, value):
    path = zipped(tmp_path / 'a.zip')
    data = bytearray(path.read_bytes())
    data[data.index(b'PK\x01\x02') + offset] = value
    path.write_bytes(data)
    with pytest.raises(InputError, match='encrypted or packed by an unknown method'):
        FileTree([path])


def test_links_are_followed_or_one_line(tmp_path):
    (tmp_path / 'far/deep').mkdir(parents=True)
    (tmp_path / 'far/deep/x.png').write_bytes(b'x')
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/near').symlink_to('../far')
    assert read(FileTree([tmp_path / 'in'])) == {'near/deep/x.png': b'x'}
    (tmp_path / 'in/near/loop').symlink_to('..')
    (tmp_path / 'far/loop').unlink()
    (tmp_path / 'in/loop').symlink_to('.')
    with pytest.raises(InputError, match='in/loop: a link to a folder above it; remove it'):
        FileTree([tmp_path / 'in'])


@pytest.mark.parametrize('target', ['nowhere', 'link'])
def test_a_link_that_leads_nowhere_is_one_line(tmp_path, target):
    (tmp_path / 'link').symlink_to(target)
    with pytest.raises(InputError, match=r'link: link to .*, which is missing; copy the file'):
        read(FileTree([tmp_path]))


def test_a_pipe_in_a_folder_is_no_file_of_the_data_set(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'x')
    assert read(FileTree([tmp_path])) == {'/b.png': b'x'}


def test_a_refusal_leaves_nothing(davis, tmp_path):
    path = tmp_path / 'davis.tar.xz'
    with tarfile.open(path, 'w:xz') as archive:
        archive.add(davis, 'DAVIS')
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match='not a whole tar archive'):
        prepare('davis2017', [path], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    path.write_bytes(whole)
    with pytest.raises(InputError, match="has no split 'none'"):
        prepare('davis2017', [path], tmp_path / 'out', splits=['none'])
    assert not (tmp_path / 'out').exists()
    prepare('davis2017', [path], tmp_path / 'out')
