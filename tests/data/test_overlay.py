import numpy as np

from vos_jax.data.overlay import overlay
from vos_jax.storage.palette import PALETTE

FRAME = np.full((7, 9, 3), 100, np.uint8)


def test_masks_are_mixed_in_contours_are_solid_and_the_rest_stays():
    labels = np.zeros((7, 9), np.uint8)
    labels[1:6, 1:6] = 1
    picture = overlay(FRAME, labels, opacity=0.5)
    np.testing.assert_array_equal(picture[3, 3], [114, 50, 50])  # half (128, 0, 0), half 100
    np.testing.assert_array_equal(picture[1, 1], PALETTE[1])
    np.testing.assert_array_equal(picture[0, 3], PALETTE[1])  # contours reach one pixel out
    np.testing.assert_array_equal(picture[:, 7:], FRAME[:, 7:])


def test_objects_side_by_side_and_at_the_border_keep_their_colours():
    labels = np.zeros((7, 9), np.uint8)
    labels[:, :4], labels[:, 4:] = 1, 2
    colours = np.array(PALETTE)
    colours[2] = 10, 20, 30
    picture = overlay(FRAME, labels, opacity=1.0, colours=colours)
    np.testing.assert_array_equal(picture[0, 0], PALETTE[1])
    np.testing.assert_array_equal(picture[6, 8], [10, 20, 30])
    np.testing.assert_array_equal(picture[3, 3], [10, 20, 30])  # of a contour the higher id


def test_nothing_is_drawn_without_masks_and_the_frame_is_not_written_to():
    empty = np.zeros((7, 9), np.uint8)
    np.testing.assert_array_equal(overlay(FRAME, empty), FRAME)
    before = FRAME.copy()
    overlay(FRAME, empty + 1)[:] = 0
    np.testing.assert_array_equal(FRAME, before)
