"""Files of folders as people have them, and their order in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vos_jax.data import listing
from vos_jax.errors import InputError


@pytest.mark.parametrize(
    'names',
    [
        ['1.0', '1.25', '1.5'],  # times without padding
        ['-10', '-9.5', '-1', '0', '1', '10'],
        ['9', '10', '00011'],
        ['1e-05', '0.0001', '0.5'],
        ['frame_9', 'frame_10', 'frame_011'],
        ['a-1', 'a-2', 'a-10'],  # a minus behind a letter joins
        ['2023-12-31', '2024-01-02'],
        ['t0.5', 't0.75'],
        ['3', '5²', '①'],
        ['٣', '٤'],  # digits of another script
    ],
)
def test_frames_come_in_the_order_of_their_numbers(names):
    assert listing.in_time_order(reversed(names), 'folder') == names


@pytest.mark.parametrize(
    ('names', 'told'),
    [
        (['5', '00005'], '00005 and 5 have the same number'),
        (['1.50', '2', '1.5'], r'1\.5 and 1\.50 have the same number'),
        (['img7', 'img007'], 'img007 and img7 have the same number'),
        (['t1.25', 't1.5'], r't1\.5 and t1\.25 come in another order'),
        (['f_-1', 'f_0'], 'f_0 and f_-1 come in another order'),
        (['08', '09', '0a', '10'], '0a and 08 come in another order as hexadecimal'),
        (['x', '1.25', '1.5'], r'1\.5 and 1\.25 come in another order'),
    ],
)
def test_what_could_be_two_orders_names_both(names, told):
    with pytest.raises(InputError, match=rf'folder: {told}'):
        listing.in_time_order(names, 'folder')


@given(st.lists(st.decimals(-1e6, 1e6, allow_nan=False, places=3), unique=True, min_size=1))
def test_numbers_are_sorted_by_value(numbers):
    numbers = sorted(numbers)
    assert listing.in_time_order([f'{n:f}' for n in numbers][::-1], '') == [
        f'{n:f}' for n in numbers
    ]


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=6))
def test_any_names_have_one_order_or_are_refused(names):
    try:
        ordered = listing.in_time_order(names, 'folder')
    except InputError:
        return
    assert sorted(ordered) == sorted(names)
    assert listing.in_time_order(names[::-1], 'folder') == ordered


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b'')


def test_what_other_programs_leave_behind_is_not_seen(tmp_path):
    touch(tmp_path, '1.JPG', '2.jpeg', '._1.JPG', '.DS_Store', 'Thumbs.db', 'notes.txt')
    (tmp_path / '3.png').mkdir()
    (tmp_path / '.ipynb_checkpoints').mkdir()
    assert list(listing.list_files(tmp_path, ('.jpg', '.jpeg', '.png'))) == ['1', '2']
    assert listing.folders_in(tmp_path) == ['3.png']


@pytest.mark.parametrize('names', [('1.jpg', '1.png'), ('1.jpg', '1.JPG'), ('1.jpeg', '1.jpg')])
def test_a_frame_that_is_there_twice_names_both(tmp_path, names):
    touch(tmp_path, *names, '1.txt')
    with pytest.raises(InputError, match='differ only in their suffix') as caught:
        listing.list_files(tmp_path, ('.jpg', '.jpeg', '.png'))
    assert all(name in str(caught.value) for name in names)


def test_links_are_followed_and_dangling_ones_are_named(tmp_path):
    touch(tmp_path / 'real', '1.png')
    (tmp_path / 'link').symlink_to('real')
    assert listing.folders_in(tmp_path) == ['link', 'real']
    (tmp_path / 'real' / '2.png').symlink_to(tmp_path / 'real' / '1.png')
    assert list(listing.list_files(tmp_path / 'link', ('.png',))) == ['1', '2']
    (tmp_path / 'real' / '3.png').symlink_to('gone.png')
    with pytest.raises(InputError, match=r'3\.png: link to gone\.png, which is missing'):
        listing.list_files(tmp_path / 'link', ('.png',))
    (tmp_path / 'real' / '3.png').unlink()
    (tmp_path / 'real' / '3.png').symlink_to('3.png')
    with pytest.raises(InputError, match=r'3\.png: link to 3\.png, which is missing'):
        listing.list_files(tmp_path / 'link', ('.png',))


def test_a_name_that_no_folder_can_have_is_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match='folder is missing'):
        listing.list_files(tmp_path / ('a' * 300), ('.png',))


def test_what_cannot_be_seen_in_a_name_is_written_out(tmp_path):
    with pytest.raises(InputError, match=r'dog\\u200b'):
        listing.list_files(tmp_path / 'dog\u200b', ('.png',))
