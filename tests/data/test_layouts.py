"""Finding the frames and masks of data sets."""

import json

import numpy as np
import pytest

from vos_jax.data import layouts
from vos_jax.data.frames import write_frame
from vos_jax.data.masks import write_labels
from vos_jax.errors import InputError


def test_davis_lists_frames_and_masks_in_time_order(write_set, moving_squares):
    root = write_set({'b': moving_squares(1, 3), 'a': moving_squares(2, 12)})
    sequences = layouts.davis(root, 'train')
    assert [sequence.name for sequence in sequences] == ['b', 'a']
    assert sequences[1].stems == tuple(f'{t:05d}' for t in range(12))
    assert sequences[1].given == ('00000',)
    assert sequences[1].required == sequences[1].stems
    assert sequences[1].size == (48, 64)
    np.testing.assert_array_equal(sequences[1].read_labels('00011'), moving_squares(2, 12)[11])
    np.testing.assert_array_equal(
        sequences[1].read_frame(11)[..., 1], moving_squares(2, 12)[11] * 60
    )


def test_frames_without_leading_zeros_are_in_time_order(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 11)})
    for path in [*root.glob('JPEGImages/*/*/*'), *root.glob('Annotations/*/*/*')]:
        path.rename(path.with_name(f'{int(path.stem)}.png'))
    assert layouts.davis(root, 'train')[0].stems == tuple(map(str, range(11)))


def test_pairs_of_image_and_mask_name_the_sequences(write_set, moving_squares):
    root = write_set({'bear': moving_squares(1, 2), 'camel': moving_squares(1, 2)})
    rows = [
        f'/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png'
        for name in ('camel', 'bear')
        for t in range(2)
    ]
    (root / 'ImageSets' / '2016' / 'train.txt').write_text('\n'.join(rows) + '\n\n')
    assert [s.name for s in layouts.davis(root, 'train', year='2016')] == ['camel', 'bear']


def test_480p_is_taken_before_other_resolutions(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 2)})
    (root / 'JPEGImages' / 'Full-Resolution').mkdir()
    assert layouts.davis(root, 'train')[0].frames[0].parent.parent.name == '480p'


def test_the_only_resolution_is_taken_whatever_its_name(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 2)})
    for kind in ('JPEGImages', 'Annotations'):
        (root / kind / '480p').rename(root / kind / '77p')
    assert layouts.davis(root, 'train')[0].frames[0].parent.parent.name == '77p'


def test_frames_without_mask_are_for_evaluation_only(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 4)})
    (root / 'Annotations/480p/a/00002.png').unlink()
    sequences = layouts.davis(root, 'train')
    assert set(sequences[0].masks) == {'00000', '00001', '00003'}
    with pytest.raises(InputError, match=r'Annotations/480p/a/00002\.png: this mask is missing'):
        layouts.require_masks(sequences)


def test_a_missing_first_mask_is_named(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 4)})
    (root / 'Annotations/480p/a/00000.png').unlink()
    with pytest.raises(InputError, match=r'Annotations/480p/a/00000\.png: this mask is missing'):
        layouts.davis(root, 'train')


def test_a_missing_sequence_is_named(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 4)})
    (root / 'ImageSets/2017/train.txt').write_text('a\ngone\n')
    with pytest.raises(InputError, match=r'JPEGImages/480p/gone: folder is missing'):
        layouts.davis(root, 'train')


def test_an_empty_sequence_is_named(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 4)})
    for path in (root / 'JPEGImages/480p/a').iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r'JPEGImages/480p/a: no \.jpg or .* files in it'):
        layouts.davis(root, 'train')


def test_a_mask_without_frame_is_named(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 4)})
    (root / 'JPEGImages/480p/a/00003.png').unlink()
    with pytest.raises(InputError, match=r'Annotations/480p/a/00003\.png: mask without a frame'):
        layouts.davis(root, 'train')


def test_a_missing_list_names_those_that_are_there(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 4)})
    with pytest.raises(InputError, match=r'2017/val\.txt: .*there: 2016/train.txt, 2017/train.txt'):
        layouts.davis(root, 'val')


@pytest.mark.parametrize('wrong', ['JPEGImages', 'JPEGImages/480p', '..'])
def test_a_wrong_root_is_answered_with_the_right_one(write_set, moving_squares, wrong):
    root = write_set({'a': moving_squares(1, 4)})
    with pytest.raises(InputError, match=r'did you mean .*set\?'):
        layouts.davis(root / wrong, 'train')


def test_0_255_masks_need_to_be_asked_for_where_ids_are_expected(write_set, moving_squares):
    root = write_set({'a': moving_squares(1, 3) * 255})
    with pytest.raises(InputError, match=r'a/00000\.png: only 0 and 255 .*need object ids'):
        layouts.davis(root, 'train')
    for sequences in (
        layouts.davis(root, 'train', binary=True),
        layouts.davis(root, 'train', year='2016'),
    ):
        np.testing.assert_array_equal(sequences[0].read_labels('00002'), moving_squares(1, 3)[2])


def test_void_in_a_set_of_ids_stays_void(write_set, draw):
    root = write_set({'a': [draw('1v.')], 'b': [draw('..v')]})
    sequences = layouts.davis(root, 'train', year='2016')
    np.testing.assert_array_equal(sequences[0].read_labels('00000'), draw('1v.'))
    np.testing.assert_array_equal(sequences[0].read_given('00000'), draw('1..'))
    with pytest.raises(InputError, match=r'b/00000\.png: no object in it, only 0 and 255'):
        sequences[1].read_given('00000')


def test_an_empty_first_mask_is_named(write_set, draw):
    sequences = layouts.davis(write_set({'a': [draw('...'), draw('.1.')]}), 'train')
    with pytest.raises(InputError, match=r'a/00000\.png: no object in it.*draw one'):
        sequences[0].read_given('00000')


def test_a_mask_of_another_size_than_its_frame_is_named(write_set, draw):
    root = write_set({'a': [draw('1..'), draw('.1.')]})
    write_labels(root / 'Annotations/480p/a/00001.png', draw('.1'))
    sequence = layouts.davis(root, 'train')[0]
    with pytest.raises(InputError, match=r'a/00001\.png: mask of size 2x1, its frame is 3x1'):
        sequence.read_labels('00001')


@pytest.fixture
def youtube_set(tmp_path, write_set, draw):
    """Object 2 from frame 5, object 5 from frame 15, in a mask that shows only what is new."""
    first, later = draw('22..', '....'), draw('....', '...5')
    write_set({'v': np.zeros((21, 2, 4), np.uint8)}, root=tmp_path / 'scratch')
    folder = tmp_path / 'vos' / 'valid'
    folder.mkdir(parents=True)
    (tmp_path / 'scratch' / 'JPEGImages' / '480p').rename(folder / 'JPEGImages')
    for path in (folder / 'JPEGImages' / 'v').iterdir():
        if int(path.stem) % 5:
            path.unlink()
    write_labels(folder / 'Annotations/v/00005.png', first)
    write_labels(folder / 'Annotations/v/00015.png', later)
    objects = {
        '5': {'category': 'cat', 'frames': ['00015', '00020']},
        '2': {'frames': ['00005', '00010', '00015', '00020']},
    }
    (folder / 'meta.json').write_text(json.dumps({'videos': {'v': {'objects': objects}}}))
    return tmp_path / 'vos'


def test_youtube_vos_objects_are_given_where_they_appear(youtube_set, draw):
    (video,) = layouts.youtube_vos(youtube_set, 'valid')
    assert video.stems == ('00000', '00005', '00010', '00015', '00020')
    assert video.given == ('00005', '00015')
    assert video.required == ('00005', '00010', '00015', '00020')
    np.testing.assert_array_equal(video.read_given('00005'), draw('22..', '....'))
    np.testing.assert_array_equal(video.read_given('00015'), draw('....', '...5'))


def test_where_all_frames_are_annotated_only_new_objects_are_given(youtube_set, draw):
    write_labels(youtube_set / 'valid/Annotations/v/00015.png', draw('.2..', '...5'))
    (video,) = layouts.youtube_vos(youtube_set, 'valid')
    np.testing.assert_array_equal(video.read_given('00015'), draw('....', '...5'))
    np.testing.assert_array_equal(video.read_labels('00015'), draw('.2..', '...5'))


def test_all_frames_of_youtube_vos_require_the_same_frames(youtube_set):
    source = youtube_set / 'valid' / 'JPEGImages' / 'v' / '00000.png'
    dense = youtube_set / 'valid_all_frames' / 'JPEGImages' / 'v'
    dense.mkdir(parents=True)
    for t in range(25):
        (dense / f'{t:05d}.png').write_bytes(source.read_bytes())
    (video,) = layouts.youtube_vos(youtube_set, 'valid', all_frames=True)
    assert len(video.frames) == 25
    assert video.required == ('00005', '00010', '00015', '00020')


def test_a_missing_first_appearance_is_named(youtube_set):
    (youtube_set / 'valid/Annotations/v/00015.png').unlink()
    with pytest.raises(InputError, match=r'Annotations/v/00015\.png: this mask is missing'):
        layouts.youtube_vos(youtube_set, 'valid')


def test_a_required_frame_that_is_missing_is_named(youtube_set):
    (youtube_set / 'valid/JPEGImages/v/00010.png').unlink()
    with pytest.raises(InputError, match=r'JPEGImages/v/00010\.jpg: this frame is missing'):
        layouts.youtube_vos(youtube_set, 'valid')


@pytest.mark.parametrize('text', ['{', '{}', '[]', '{"videos": {"v": {"objects": {"1": {}}}}}'])
def test_a_broken_meta_file_is_named(youtube_set, text):
    (youtube_set / 'valid' / 'meta.json').write_text(text)
    with pytest.raises(InputError, match=r'meta\.json: not the form'):
        layouts.youtube_vos(youtube_set, 'valid')


@pytest.mark.parametrize(
    ('name', 'split', 'sequences', 'frames'),
    [
        ('davis_240p', 'train', 35, 813),
        ('davis_240p', 'val', 7, 215),
        ('davis_multi_240p', 'train', 11, 257),
        ('davis_multi_240p', 'val', 5, 133),
        ('davis_480p_mini', 'val', 2, 24),
    ],
)
def test_counts_of_the_reference_sets(shared, name, split, sequences, frames):
    found = layouts.davis(shared(f'data/{name}'), split)
    layouts.require_masks(found)
    assert len(found) == sequences
    assert sum(len(sequence.frames) for sequence in found) == frames


def test_a_photograph_is_a_sequence_of_one_frame(tmp_path, write_set, draw):
    root = write_set({'a': [draw('1.2')], 'b': [draw('11', '..')]}, root=tmp_path / 'scratch')
    for kind, folder in (('JPEGImages', 'images'), ('Annotations', 'masks')):
        (tmp_path / folder).mkdir()
        for name in 'ab':
            path = root / kind / '480p' / name / '00000.png'
            path.rename(tmp_path / folder / f'{name}.png')
    first, second = layouts.still_images(tmp_path)
    assert (first.name, first.stems, first.size) == ('a', ('a',), (1, 3))
    np.testing.assert_array_equal(second.read_given('b'), draw('11', '..'))
    (tmp_path / 'masks' / 'a.png').unlink()
    with pytest.raises(InputError, match=r'masks/a\.png: this mask is missing'):
        layouts.still_images(tmp_path)


def test_photographs_in_0_255_form_are_read_on_request(tmp_path, draw):
    (tmp_path / 'images').mkdir()
    for name in 'ab':
        write_frame(tmp_path / 'images' / f'{name}.jpg', np.zeros((2, 3, 3), np.uint8))
        write_labels(tmp_path / 'masks' / f'{name}.png', draw('v..', 'vv.'))
    with pytest.raises(InputError, match=r'masks/a\.png: only 0 and 255 here'):
        layouts.still_images(tmp_path)
    for sequence in layouts.still_images(tmp_path, binary=True):
        np.testing.assert_array_equal(sequence.read_labels(sequence.name), draw('1..', '11.'))


def test_counts_of_the_reference_photographs(shared):
    found = layouts.still_images(shared('data/static_images'))
    assert len(found) == 34
    assert all(sequence.read_given(sequence.stems[0]).any() for sequence in found)
