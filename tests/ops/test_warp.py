"""The warp on the device gives what OpenCV's gives on the host."""

import cv2
import jax
import numpy as np
import pytest

from vos_jax.data import augment
from vos_jax.ops.warp import warp

CANVAS, CROP = (40, 56), (24, 32)
SIZES = [(40, 56), (17, 56), (40, 9), (2, 3), (1, 1)]  # each mirrored more often than the last
WARP = jax.jit(warp, static_argnums=3)


def draw_matrices(rng, flip):
    """Of two frames of each size: rotated, sheared, scaled, and moved over the border."""
    found = np.empty((len(SIZES), 2, 2, 3))
    angle, scale = rng.uniform(-np.pi, np.pi, found.shape[:2]), rng.uniform(0.3, 2, found.shape[:2])
    found[..., 0, :2] = np.stack([np.cos(angle), np.sin(angle)], -1) * scale[..., None]
    found[..., 1, :2] = np.stack([-np.sin(angle + 0.2), np.cos(angle)], -1) * scale[..., None]
    found[..., :2] *= [[-1 if flip else 1, 1]]
    found[..., 2] = rng.uniform(-60, 60, (*found.shape[:2], 2))
    return found


@pytest.mark.parametrize('flip', [False, True])
def test_frames_and_labels_are_those_of_opencv(rng, flip):
    differing = []
    for _ in range(20):
        pixels = rng.integers(0, 256, (len(SIZES), 2, *CANVAS, 4), np.uint8)
        for image in pixels.reshape(-1, *CANVAS, 4):
            image[..., :3] = cv2.blur(image[..., :3], (5, 5))
        matrices = draw_matrices(rng, flip)
        frames, labels = WARP(
            pixels.view(np.uint32)[..., 0],
            matrices.astype(np.float32),
            np.array(SIZES, np.int32),
            CROP,
        )
        for clip, (height, width) in enumerate(SIZES):
            for t in range(2):
                image = np.ascontiguousarray(pixels[clip, t, :height, :width])
                frame, mask = np.empty((*CROP, 3), np.uint8), np.empty(CROP, np.uint8)
                augment.warp_frame(image, matrices[clip, t], frame)
                augment.warp_labels(image[..., 3].copy(), matrices[clip, t], mask)
                difference = np.abs(np.asarray(frames[clip, t], int) - frame)
                assert difference.max() <= 2  # OpenCV 4 has coordinates of 1/32 pixel
                assert difference.mean() < 0.2
                differing.append(np.mean(labels[clip, t] != mask))
    assert np.mean(differing) < 1e-3
