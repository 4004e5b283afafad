"""The masks that a user gives: found by the name of the frame, refused before the work starts."""

import numpy as np
import pytest
from PIL import Image

from tests.video import samples
from vos_jax.data import frames
from vos_jax.errors import InputError
from vos_jax.video.given import find_masks
from vos_jax.video.reader import Range, open_video


@pytest.fixture
def video(tmp_path):
    return open_video(samples.write_video(tmp_path / 'a.mp4', [samples.draw(n) for n in range(8)]))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'masks').mkdir()
    return tmp_path / 'masks'


def test_one_mask_belongs_to_the_first_frame_of_the_range(video, tmp_path):
    path = samples.write_mask(tmp_path / 'any name.png')
    given = find_masks(path, video, Range(start=3))
    assert given.first == 3
    np.testing.assert_array_equal(given.read(3), samples.first_mask())
    assert given.read(4) is None
    assert given.check(video.size) == [1, 5]


def test_masks_of_a_folder_belong_to_the_frames_they_are_named_after(video, folder):
    for name in ('00006', '2'):
        samples.write_mask(folder / f'{name}.png')
    assert list(find_masks(folder, video, Range()).files) == [2, 6]
    assert list(find_masks(folder, video, Range(stop=6)).files) == [2]


def test_masks_for_a_folder_of_frames_have_their_names(tmp_path, folder):
    for name in ('img8', 'img9', 'img10'):
        frames.write_frame(tmp_path / 'frames' / f'{name}.jpg', samples.draw(0))
    samples.write_mask(folder / 'img9.png')
    video = open_video(tmp_path / 'frames')
    assert list(find_masks(folder, video, Range()).files) == [1]
    samples.write_mask(folder / '00001.png')
    with pytest.raises(InputError, match=r'00001\.png: no frame of this name.*img8\.png'):
        find_masks(folder, video, Range())


@pytest.mark.parametrize('chosen', [Range(start=3), Range(stride=4)])
def test_a_mask_of_a_frame_that_is_left_out_is_refused(video, folder, chosen):
    samples.write_mask(folder / '00002.png')
    with pytest.raises(InputError, match=r'00002\.png: frame 2 is left out'):
        find_masks(folder, video, chosen)


def test_no_masks_are_refused(video, folder):
    with pytest.raises(InputError, match='no mask'):
        find_masks(folder, video, Range())
    with pytest.raises(InputError, match='no such mask'):
        find_masks(folder / 'none.png', video, Range())


def _colours(labels):
    return Image.fromarray(np.repeat(labels[..., None], 3, axis=2))


def _many_ids(labels):
    return Image.fromarray(np.arange(labels.size, dtype=np.uint16).reshape(labels.shape))


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (_colours, 'colour image'),
        (_many_ids, '16-bit image, need 8-bit object ids'),
        (lambda labels: Image.fromarray(labels[1:]), 'mask of size 66x49, its frame is 66x50'),
        (lambda labels: Image.fromarray(0 * labels), 'no object in it; draw one'),
        (lambda labels: Image.fromarray(np.uint8(255) * (labels > 0)), 'add --binary'),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(video, tmp_path, make, message):
    path = tmp_path / 'mask.png'
    make(samples.first_mask()).save(path)
    with pytest.raises(InputError, match=rf'mask\.png: .*{message}'):
        find_masks(path, video, Range()).check(video.size)


def test_white_on_black_is_one_object_on_request(video, tmp_path):
    path = tmp_path / 'mask.png'
    Image.fromarray(np.uint8(255) * (samples.first_mask() == 5)).save(path)
    given = find_masks(path, video, Range(), binary=True)
    assert given.check(video.size) == [1]
    np.testing.assert_array_equal(given.read(0), samples.first_mask() == 5)


def test_void_belongs_to_no_object(video, tmp_path):
    labels = samples.first_mask()
    labels[:5] = 255
    given = find_masks(samples.write_mask(tmp_path / 'm.png', labels), video, Range())
    np.testing.assert_array_equal(given.read(0), samples.first_mask())


def test_an_object_lost_by_scaling_is_refused(video, tmp_path):
    labels = samples.first_mask()
    labels[1, 1] = 9
    given = find_masks(samples.write_mask(tmp_path / 'm.png', labels), video, Range())
    assert given.check(video.size) == [1, 5, 9]
    with pytest.raises(InputError, match='object 9 is too small to be seen at --short_side=32'):
        given.check((32, 42))


def test_a_mask_that_fits_the_stored_frames_is_refused_with_the_turn(tmp_path, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames_folder = tmp_path / 'frames'
    frames_folder.mkdir()
    Image.fromarray(samples.draw(0, (48, 64))).save(frames_folder / '0.png', exif=exif)
    labels = samples.first_mask((48, 64))
    path = samples.write_mask(folder / '0.png', labels)
    video = open_video(frames_folder)
    with pytest.raises(InputError, match=r'0\.png: mask of size 64x48 .*turned upright.*turn the'):
        find_masks(path, video, Range()).check((64, 48))
    samples.write_mask(path, np.ascontiguousarray(labels.T))
    assert find_masks(path, video, Range()).check((64, 48)) == [1, 5]


def test_masks_of_one_frame_under_two_names_are_refused(video, folder):
    samples.write_mask(folder / '3.png')
    samples.write_mask(folder / '00003.png')
    with pytest.raises(InputError, match=r'00003\.png and 3\.png are both of frame 3'):
        find_masks(folder, video, Range())
