"""Resizing with aligned corners, cubic, and by the nearest rule without half-pixel shift."""

import cv2
import numpy as np
import pytest

from vos_jax.ops import align


def test_bilinear_keeps_the_corners_and_is_linear_between_them():
    x = np.array([[0.0, 3.0], [6.0, 9.0]], np.float32)
    expected = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    np.testing.assert_allclose(align.resize_maps(x, (4, 4)), expected, atol=1e-6)


def test_one_output_pixel_is_the_first():
    x = np.array([[5.0, 7.0, 9.0]], np.float32)
    np.testing.assert_array_equal(align.resize_maps(x, (1, 1)), [[5.0]])


def test_cubic_with_aligned_corners_of_an_impulse():
    # Halfway between two centres the taps are -0.09375 and 0.59375 (a = -0.75).
    x = np.array([[0.0, 0.0, 1.0, 0.0, 0.0]], np.float32)
    expected = [[0, -0.09375, 0, 0.59375, 1, 0.59375, 0, -0.09375, 0]]
    result = align.resize_maps(x, (1, 9), align.cubic_weights)
    np.testing.assert_allclose(result, expected, atol=1e-7)


def test_cubic_repeats_border_pixels():
    # Between the first two pixels the missing left neighbour is the first pixel again.
    x = np.array([[1.0, 0.0, 0.0]], np.float32)
    result = align.resize_maps(x, (1, 5), align.cubic_weights)
    np.testing.assert_allclose(result[0, 1], 0.59375 - 0.09375, atol=1e-7)


@pytest.mark.parametrize('weights', [align.linear_weights, align.cubic_weights])
@pytest.mark.parametrize('sizes', [(1, 4), (7, 7), (9, 25), (31, 12)])
def test_weights_sum_to_one(weights, sizes):
    np.testing.assert_allclose(weights(*sizes).sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize('size', [(113, 161), (129, 193), (60, 77)])
def test_cubic_with_half_pixel_centres_is_opencvs(rng, size):
    image = rng.integers(0, 256, (120, 164, 3)).astype(np.float32)

    def half_pixel(old, new):
        return align.cubic_weights(old, new, aligned=False)

    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
    # OpenCV computes its weights in float32; values are up to 255.
    np.testing.assert_allclose(align.resize(image, size, half_pixel), expected, atol=1e-2)


def test_nearest_takes_the_floor_of_the_scaled_index():
    labels = np.arange(10).reshape(1, 10)
    np.testing.assert_array_equal(align.nearest(labels, (1, 4)), [[0, 2, 5, 7]])
    np.testing.assert_array_equal(align.nearest(labels[:, :3], (1, 7)), [[0, 0, 0, 1, 1, 2, 2]])
