"""The mask of an object from a box around it or from scribbles: GrabCut, by OpenCV.

Rother, Kolmogorov, Blake, "GrabCut": colours inside and outside are mixtures of Gaussians, and the
cheapest boundary between them is a minimal cut.
"""

import cv2
import numpy as np

from vos_jax.errors import InputError
from vos_jax.video.scaling import shrink_image, shrink_labels

_WORK_PX = 40_000  # pixels that are cut: half a second
_MARGIN = 0.5  # of a box, or of scribbles: how far around them the cut looks
_CORE = 0.2  # of a box: its middle is the object, else one that looks like its ground is lost whole
_GROUND = 2  # a colour is the object's where its share in the box is more than so many times higher
_FEWEST_PX = 8  # OpenCV needs a pixel for each of its five Gaussians
_ROUNDS = 3
_MOST_POINTS = 10_000
_WIDEST_PX = 100
_INSIDE, _OUTSIDE = 1, 2


def outline(image, labels, number, *, box=None, scribbles=(), radius=3):
    """Finds an object.

    Args:
      image: u8[H, W, 3].
      labels: u8[H, W] ids so far: pixels of other objects stay theirs. Without a box the mask that
        the object has is corrected near the scribbles.
      number: id of the object.
      box: (left, top, right, bottom) around the object, in pixels; nothing outside is taken.
      scribbles: {'inside': bool, 'points': [(x, y), ...]}: lines on the object, and beside it.
      radius: of the scribbles, in pixels.

    Returns:
      bool[H, W].

    Raises:
      InputError: where the box or the scribbles are too small, or nothing is found.
    """
    height, width = labels.shape
    lines = _draw(labels.shape, scribbles, radius)
    drawn = _bounds(lines) if box is None else np.clip(box, 0, [width, height] * 2)
    around = _slices(drawn, labels.shape, _MARGIN)
    hints = np.full(labels.shape, cv2.GC_BGD, np.uint8)
    is_object = labels == number
    if box is not None:
        hints[_slices(drawn, labels.shape, 0)] = cv2.GC_PR_FGD
        like_ground = _is_like_ground(image[around], hints[around] == cv2.GC_PR_FGD)
        hints[around] = np.where(like_ground, cv2.GC_PR_BGD, hints[around])
        hints[_is_core(drawn, labels.shape)] = cv2.GC_FGD
    elif is_object.any():
        hints[is_object] = cv2.GC_FGD
        hints[around] = np.where(is_object[around], cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    else:
        hints[around] = cv2.GC_PR_BGD
        hints[_slices(drawn, labels.shape, 0)] = cv2.GC_PR_FGD
    if not np.any(hints == cv2.GC_BGD):  # something must be outside
        rim = 1 + min(labels.shape) // 50
        hints[:rim] = hints[-rim:] = hints[:, :rim] = hints[:, -rim:] = cv2.GC_BGD
    hints[(labels > 0) & ~is_object] = cv2.GC_BGD
    hints[lines == _INSIDE] = cv2.GC_FGD
    hints[lines == _OUTSIDE] = cv2.GC_BGD
    found = hints == cv2.GC_FGD
    found[around] |= _cut(image[around], hints[around]) & (hints[around] != cv2.GC_BGD)
    if not found.any():
        raise InputError('no object was found there: draw the box or the scribble again, or paint')
    return found


def _draw(shape, scribbles, radius):
    """u8[H, W]: which pixels are drawn on, as inside or outside; the later line wins."""
    if sum(len(one['points']) for one in scribbles) > _MOST_POINTS:
        raise InputError(f'scribbles of more than {_MOST_POINTS} points: draw less at a time')
    lines = np.zeros(shape, np.uint8)
    width = max(1, round(2 * min(radius, _WIDEST_PX)))
    for one in scribbles:
        # What is far outside, at numbers that OpenCV takes.
        points = np.clip(np.array(one['points'], float), -max(shape), 2 * max(shape))
        value = _INSIDE if one['inside'] else _OUTSIDE
        if len(points):
            cv2.polylines(lines, [points.astype(np.int32).reshape(-1, 1, 2)], False, value, width)
    return lines


def _bounds(lines):
    rows, columns = np.nonzero(lines)
    if not len(rows):
        raise InputError('nothing is drawn in the frame: draw a box or a scribble')
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def _slices(box, shape, margin):
    """Rows and columns of a box in a frame, widened by this share of its sides."""
    (top, bottom), (left, right) = np.sort([box[1::2], box[0::2]]).astype(float)
    x, y = (bool(margin) * (4 + margin * side) for side in (right - left, bottom - top))
    rows = np.clip([np.floor(top - y), np.ceil(bottom + y)], 0, shape[0])
    columns = np.clip([np.floor(left - x), np.ceil(right + x)], 0, shape[1])
    return slice(*rows.astype(int)), slice(*columns.astype(int))


def _is_like_ground(image, inside):
    """bool[h, w]: pixels inside of colours that are about as frequent outside.

    Else a wide box on an even ground, which then looks like the object, is taken whole.
    """
    colours = (image >> 5) @ np.array([64, 8, 1])
    counts = [np.bincount(colours[where], minlength=512) for where in (inside, ~inside)]
    shares = [count / max(1, count.sum()) for count in counts]
    return inside & (_GROUND * shares[1] >= shares[0])[colours]


def _is_core(box, shape):
    (left, right), (top, bottom) = np.sort([box[0::2], box[1::2]])
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    x = (columns + 0.5 - (left + right) / 2) / max(right - left, 1)
    y = (rows + 0.5 - (top + bottom) / 2) / max(bottom - top, 1)
    return np.hypot(x, y) < _CORE / 2


def _cut(image, hints):
    """bool[h, w]: what GrabCut finds, on a smaller picture where this one is large."""
    scale = min(1, (_WORK_PX / max(1, hints.size)) ** 0.5)
    size = tuple(max(1, round(side * scale)) for side in hints.shape)
    small = shrink_labels(hints, size).copy()
    inside = np.count_nonzero(small & 1)  # GC_FGD is 1, GC_PR_FGD 3
    if min(inside, small.size - inside) < _FEWEST_PX:
        raise InputError('the box or the scribble is too small, or too large: draw it again')
    cv2.setRNGSeed(0)  # the same drawing gives the same mask
    inner, outer = np.zeros((2, 1, 65))
    shrunk = shrink_image(image, size)
    cv2.grabCut(shrunk, small, None, outer, inner, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return cv2.resize((small & 1).astype(np.float32), hints.shape[::-1]) > 0.5
