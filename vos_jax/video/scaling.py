"""Between the size of a video and the size at which the model works on it."""

import cv2
import numpy as np

from vos_jax.errors import InputError

_SMALLEST = 32


def working_size(size, short_side):
    """The size to work at: the shorter side becomes `short_side`; nothing is enlarged.

    Args:
      size: (height, width) of the video.
      short_side: pixels, or 0 for the size of the video.

    >>> working_size((1080, 1920), 480), working_size((240, 428), 480)
    ((480, 853), (240, 428))
    """
    if short_side < 0 or 0 < short_side < _SMALLEST:
        raise InputError(
            f'--short_side={short_side}: at least {_SMALLEST} pixels, or 0 for no scaling'
        )
    if not short_side or short_side >= min(size):
        return tuple(size)
    return tuple(round(side * short_side / min(size)) for side in size)


def shrink_image(image, size):
    """u8[H, W, 3] at (height, width), each pixel the mean of those it covers."""
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def shrink_labels(labels, size):
    """u8[H, W] ids at (height, width), by nearest neighbour: ids cannot be mixed."""
    if labels.shape == tuple(size):
        return labels
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def enlarge(probabilities, ids, size):
    """u8[H, W] ids at the size of the video: probabilities are enlarged, and the highest one wins.

    Args:
      probabilities: f32[n + 1, h, w], background first, then the n `ids`.
      size: (height, width).
    """
    labels = np.zeros(size, np.uint8)
    highest = cv2.resize(probabilities[0], size[::-1])
    for number, map_ in zip(ids, probabilities[1:]):  # one by one: a film has few MB per object
        large = cv2.resize(map_, size[::-1])
        # OpenCV's comparison and copy take a tenth of the time of a boolean index.
        wins = cv2.compare(large, highest, cv2.CMP_GT)
        cv2.copyTo(np.full(size, number, np.uint8), wins, labels)
        np.maximum(highest, large, out=highest)
    return labels
