"""One warp per frame: frames and masks stay aligned, and each setting does what it says."""

import cv2
import numpy as np
import pytest

from vos_jax.config.schema import Colour, DataSpec, Jitter, Source
from vos_jax.data import augment

PLAIN = {
    'sources': (Source(root='none'),),
    'batch_size': 1,
    'crop': (24, 32),
    'flip': 0.0,
    'scale': (1.0, 1.0),
    'scale_of': 'source',
}


def settings(**changes):
    return DataSpec(**(PLAIN | changes))


def warp(rng, frame, labels, length=1, **changes):
    wanted = settings(**changes)
    linear = augment.draw_linear(rng, wanted, labels.shape)
    centre = augment.draw_centre(rng, linear, labels.shape, wanted.crop)
    matrices = augment.draw_matrices(rng, wanted.crop, wanted.jitter, linear, centre, length)
    frames = np.empty((length, *wanted.crop, 3), np.uint8)
    for t in range(length):
        augment.warp_frame(frame, matrices[t], out=frames[t])
    return frames, np.stack([warp_mask(labels, matrix, wanted.crop) for matrix in matrices])


def warp_mask(labels, matrix, size, **options):
    out = np.empty(size, np.uint8)
    augment.warp_labels(labels, matrix, out, **options)
    return out


@pytest.fixture
def painted():
    """A frame that tells where each of its pixels lies, and a mask of disks and boxes."""
    y, x = np.mgrid[:60, :90]
    frame = np.stack([2 * x, 4 * y, 0 * x], axis=-1).astype(np.uint8)
    labels = np.zeros((60, 90), np.uint8)
    cv2.circle(labels, (40, 30), 14, 1, -1)
    labels[5:25, 60:90] = 2
    labels[40:60, 0:20] = 3
    return frame, labels


def assert_aligned(frame, labels, source_labels):
    """Each pixel of the crop has the label of the place that the frame shows there.

    The frame tells the place to a quarter of a pixel (2 or 4 levels a pixel, rounded), OpenCV's
    warp to 1/32; so the label must be found within 0.3 pixels.
    """
    height, width = source_labels.shape
    found = np.zeros(labels.shape, bool)
    for dx in (-0.3, 0.3):
        for dy in (-0.3, 0.3):
            x = np.clip(np.rint(frame[..., 0] / 2 + dx), 0, width - 1).astype(int)
            y = np.clip(np.rint(frame[..., 1] / 4 + dy), 0, height - 1).astype(int)
            found |= source_labels[y, x] == labels
    assert found.all()


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'flip': 1.0},
        {'rotation': 40.0},
        {'shear': 20.0},
        {'stretch': 0.5},
        {'scale': (0.7, 1.6)},
        {'scale': (1.0, 1.3), 'scale_of': 'cover'},
        {'jitter': Jitter(rotation=10.0, scale=0.1, shear=8.0, shift=0.1)},
        {
            'flip': 0.5,
            'rotation': 30.0,
            'shear': 10.0,
            'stretch': 0.2,
            'scale': (0.6, 1.8),
            'jitter': Jitter(rotation=5.0, scale=0.1, shear=4.0, shift=0.05),
        },
    ],
    ids=lambda changes: '+'.join(changes) or 'crop',
)
def test_frames_and_masks_stay_aligned(rng, painted, changes):
    for _ in range(20):
        frames, labels = warp(rng, *painted, length=2, **changes)
        for frame, mask in zip(frames, labels):
            assert_aligned(frame, mask, painted[1])


def test_a_plain_crop_copies_pixels(rng):
    frame = np.arange(60 * 90 * 3, dtype=np.uint32).reshape(60, 90, 3).astype(np.uint8)
    wanted = settings()
    linear = augment.draw_linear(rng, wanted, (60, 90))
    np.testing.assert_array_equal(linear, np.eye(2))
    corner, middle = np.array([7, 11]), (np.array([32, 24]) - 1) / 2
    matrices = augment.draw_matrices(rng, wanted.crop, wanted.jitter, linear, corner + middle, 1)
    out = np.empty((24, 32, 3), np.uint8)
    augment.warp_frame(frame, matrices[0], out=out)
    np.testing.assert_array_equal(out, frame[11:35, 7:39])


def test_a_flip_mirrors_left_and_right(rng, draw):
    labels = draw('12..', '3...')
    wanted = settings(crop=(2, 4), flip=1.0)
    linear = augment.draw_linear(rng, wanted, labels.shape)
    matrices = augment.draw_matrices(
        rng, wanted.crop, wanted.jitter, linear, np.array([1.5, 0.5]), 1
    )
    np.testing.assert_array_equal(warp_mask(labels, matrices[0], (2, 4)), draw('..21', '...3'))


def test_outside_the_frame_labels_are_mirrored_like_the_frame(rng, painted):
    frames, labels = warp(rng, *painted, crop=(80, 120))
    assert_aligned(frames[0], labels[0], painted[1])
    # Object 3 lies in a corner; beyond the border it comes back.
    assert (labels[0] == 3).sum() > (painted[1] == 3).sum()


def test_without_mirror_there_is_background_outside(draw):
    moved = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    out = warp_mask(draw('1111'), moved, (1, 4), mirror=False)
    np.testing.assert_array_equal(out, draw('11..'))


def test_the_crop_stays_inside_the_frame(rng):
    for _ in range(200):
        linear = augment.draw_linear(rng, settings(scale=(1.0, 2.0)), (60, 90))
        centre = augment.draw_centre(rng, linear, (60, 90), (24, 32))
        matrix = augment.draw_matrices(rng, (24, 32), Jitter(), linear, centre, 1)[0]
        corners = np.array([[0, 0, 1], [31, 23, 1]]) @ matrix.T
        assert corners.min() >= -0.5
        assert np.all(corners <= [89.5, 59.5])


def test_a_target_is_in_the_crop(rng):
    for _ in range(200):
        target = rng.uniform([0, 0], [89, 59])
        linear = augment.draw_linear(rng, settings(scale=(1.0, 2.0)), (60, 90))
        centre = augment.draw_centre(rng, linear, (60, 90), (24, 32), target)
        matrix = augment.draw_matrices(rng, (24, 32), Jitter(), linear, centre, 1)[0]
        place = np.linalg.solve(matrix[:, :2], target - matrix[:, 2])
        assert place.min() >= -0.5
        assert np.all(place <= [31.5, 23.5])


def test_scale_one_of_cover_fits_the_frame_to_the_crop(rng):
    linear = augment.draw_linear(rng, settings(scale_of='cover'), (60, 90))
    np.testing.assert_allclose(linear, np.eye(2) * 60 / 24)  # 90 / 32 would show the outside


def test_without_jitter_all_frames_share_one_matrix(rng):
    linear = augment.draw_linear(rng, settings(rotation=20.0), (60, 90))
    matrices = augment.draw_matrices(rng, (24, 32), Jitter(), linear, np.array([40.0, 30.0]), 4)
    assert np.all(matrices == matrices[0])


def test_jitter_stays_within_its_limits(rng):
    wanted = settings(jitter=Jitter(shift=0.1))
    for _ in range(100):
        matrices = augment.draw_matrices(rng, wanted.crop, wanted.jitter, np.eye(2), np.zeros(2), 2)
        shifts = matrices[..., 2] + (np.array([32, 24]) - 1) / 2
        assert np.all(np.abs(shifts) <= [3.2, 2.4])
        assert np.any(shifts[0] != shifts[1])


def test_colours_stay_as_they_are_by_default(rng):
    frames = rng.integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    changed = frames.copy()
    augment.change_colours(rng, changed, Colour())
    np.testing.assert_array_equal(changed, frames)


def test_a_grey_clip_has_equal_channels(rng):
    frames = rng.integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    augment.change_colours(rng, frames, Colour(grey=1.0))
    assert np.ptp(frames.astype(int), axis=-1).max() <= 1  # each channel is rounded by itself


def test_all_frames_of_a_clip_change_alike(rng):
    frames = np.broadcast_to(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (3, 5, 6, 3)).copy()
    before = frames.copy()
    augment.change_colours(rng, frames, Colour(brightness=0.3, contrast=0.3, saturation=0.3))
    assert np.any(frames != before)
    assert np.all(frames == frames[0])
