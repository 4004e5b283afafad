"""Files appear whole or not at all."""

import pytest

from vos_jax.storage import atomic


def test_a_file_is_replaced_and_folders_are_made(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    for content in (b'one', b'two'):
        atomic.write_bytes(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ['a.txt']


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes(b'old')
    with pytest.raises(TypeError), atomic.replacing(path) as temporary:
        temporary.write_bytes(b'half') and temporary.write_bytes('no bytes')
    assert path.read_bytes() == b'old'
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    path = tmp_path / ('x' * 255)
    atomic.write_bytes(path, b'1')
    assert path.read_bytes() == b'1'


def test_a_folder_instead_of_the_file_leaves_nothing(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(OSError, match='a'):
        atomic.write_bytes(tmp_path / 'a', b'1')
    assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    with atomic.replacing(tmp_path / 'a.txt') as temporary:
        temporary.write_bytes(b'')
        left = temporary.name
    for name in (left, 'a.tmp', '.hidden', '.a.12345678.tmp.txt'):
        (tmp_path / name).write_bytes(b'')
    atomic.remove_leftovers(tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {'a.txt', 'a.tmp', '.hidden', '.a.12345678.tmp.txt'}


def test_no_folder_has_no_leftovers(tmp_path):
    atomic.remove_leftovers(tmp_path / 'none')
