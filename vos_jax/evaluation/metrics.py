"""J and F of the DAVIS benchmark (Perazzi et al., CVPR 2016), equal to the official scores.

Everything is NumPy in, NumPy out. The two measures of one object in one
frame look at a crop around annotation and prediction, since all else is background in both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vos_jax.storage.palette import VOID

TOLERANCE = 0.008  # of the image diagonal, rounded up to pixels


@dataclass(frozen=True)
class SequenceScores:
    """J and F of the objects of one sequence in its scored frames."""

    J: np.ndarray  # f64[n, frames], row s holds object id s + 1; NaN where it is not scored
    F: np.ndarray  # f64[n, frames]

    @property
    def jf(self) -> np.ndarray:
        """f64[n, frames]: the mean of the two measures in each frame."""
        return (self.J + self.F) / 2


@dataclass(frozen=True)
class Statistics:
    """What the benchmark reports of the values of one measure."""

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class Summary:
    """The global numbers: every object of every sequence has the same weight."""

    jf: float
    J: Statistics
    F: Statistics


def jaccard(pred: np.ndarray, truth: np.ndarray) -> float:
    """Gives the region similarity J = |pred and truth| / |pred or truth| of masks bool[H, W].

    It is 1 if both are empty.

    >>> truth = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], bool)
    >>> round(jaccard(np.roll(truth, 1, axis=1), truth), 3)
    0.333
    """
    union = np.count_nonzero(pred | truth)
    return float(np.count_nonzero(pred & truth) / union) if union else 1.0


def boundary_f(pred: np.ndarray, truth: np.ndarray) -> float:
    """Gives the boundary accuracy F: the F-measure of boundary pixels within the tolerance.

    Of masks bool[H, W]; one without a boundary (empty, or filling the frame) counts as absent.

    >>> truth = np.zeros((480, 854), bool)
    >>> truth[100:200, 100:200] = True
    >>> boundary_f(np.roll(truth, 8, axis=1), truth)
    1.0
    """
    return _boundary_f(*_crop(pred, truth), tolerance_px(truth.shape))


def tolerance_px(size: tuple[int, int]) -> int:
    """Gives the distance within which boundary pixels match in a frame of `size` (H, W)."""
    return math.ceil(TOLERANCE * math.hypot(*size))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Marks pixels that differ from their right, lower or lower right neighbour: u8[H, W].

    So the boundary lies half a pixel towards the origin and never along the image border.
    """
    mask = np.ascontiguousarray(mask).view(np.uint8)
    edges = np.zeros_like(mask)
    inner = mask[:-1, :-1]
    edges[:-1, :-1] = (inner ^ mask[:-1, 1:]) | (inner ^ mask[1:, :-1]) | (inner ^ mask[1:, 1:])
    edges[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edges[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edges


def pack(marked: np.ndarray, margin: int) -> int:
    """Packs bool or u8[H, W] in one integer, a bit a pixel, with `margin` zeros behind each row.

    Python shifts, joins and counts the bits of a whole frame in a few microseconds.
    """
    height, width = marked.shape
    rows = np.zeros((height, width + margin), np.uint8)
    rows[:, :width] = marked
    return int.from_bytes(np.packbits(rows, bitorder='little').data, 'little')


def dilate_by_disk(marked: int, row: int, radius: int) -> int:
    """Marks the pixels within `radius`, dy^2 + dx^2 <= radius^2, of a marked one.

    Args:
      marked: a packed image.
      row: bits of its rows; their last `radius` are zero, so that no row grows into the next.
      radius: in pixels.

    Returns:
      The dilated image; bits may be set in the margin and behind the last row too.
    """
    dilated, grown, reach = 0, marked, 0
    for dy in range(radius, -1, -1):  # rows far from the centre are short
        dx = math.isqrt(radius * radius - dy * dy)
        while reach < dx:  # all within `reach` are marked, so that a shift may jump beyond it
            step = min(dx - reach, 2 * reach + 1)
            grown |= grown << step | grown >> step
            reach += step
        dilated |= grown << dy * row | grown >> dy * row
    return dilated


def score_frame(
    pred: np.ndarray, truth: np.ndarray, ids: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Gives ([J of each id], [F of each id]) of one frame; an absent object is an empty mask.

    Of u8[H, W] ids; void pixels are background, as in the official semi-supervised task.
    """
    if pred.shape != truth.shape:
        raise ValueError(f'prediction is {pred.shape}, annotation is {truth.shape}')
    radius = tolerance_px(truth.shape)
    pred, truth = _crop(pred, truth)
    scores_j, scores_f = [], []
    for object_id in ids:
        masks = pred == object_id, truth == object_id
        if len(ids) > 1:
            masks = _crop(*masks)
        scores_j.append(jaccard(*masks))
        scores_f.append(_boundary_f(*masks, radius))
    return scores_j, scores_f


def score_sequence(
    labels_pred: Sequence[np.ndarray], labels_true: Sequence[np.ndarray], num_objects: int
) -> SequenceScores:
    """Scores one sequence by the DAVIS rule: first and last frame are not scored, nor read.

    Args:
      labels_pred, labels_true: T times u8[H, W] ids, 255 void.
      num_objects: objects 1..num_objects are scored; `count_objects(labels_true[0])` officially.
    """
    num_frames = len(labels_true)
    if len(labels_pred) != num_frames or num_frames < 3:
        raise ValueError(
            f'{len(labels_pred)} predictions and {num_frames} annotations; '
            'need the same number, at least 3'
        )
    ids = range(1, num_objects + 1)
    frames = [score_frame(labels_pred[t], labels_true[t], ids) for t in range(1, num_frames - 1)]
    values = np.array(frames, np.float64).reshape(num_frames - 2, 2, num_objects)
    return SequenceScores(J=values[:, 0].T, F=values[:, 1].T)


def count_objects(first_labels: np.ndarray) -> int:
    """Gives the number of objects of a sequence: the largest id of its first annotation."""
    return int(np.where(first_labels == VOID, 0, first_labels).max(initial=0))


def statistics(values: np.ndarray) -> Statistics:
    """Gives mean, recall (share above 0.5) and decay of the values of one object: f64[frames]."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Statistics(math.nan, math.nan, math.nan)
    edges = decay_edges(len(values))
    first_bin, last_bin = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    decay = first_bin.mean() - last_bin.mean()
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(decay))


def decay_edges(num_frames: int) -> list[int]:
    """Gives the five edges of the four bins of the decay; neighbouring bins share one.

    The official tool casts them to 8 bits, which is wrong from 256 scored frames on; these are
    integers. Rounding is half up, after Matlab.
    """
    return [math.floor(1 + i * (num_frames - 1) / 4 + 1e-10 + 0.5) - 1 for i in range(5)]


def summarise(scores: Mapping[str, SequenceScores]) -> Summary:
    """Gives the global numbers of all sequences: means over all their objects."""
    measures = [
        _mean([statistics(row) for one in scores.values() for row in getattr(one, measure)])
        for measure in ('J', 'F')
    ]
    return Summary((measures[0].mean + measures[1].mean) / 2, *measures)


def _mean(statistics_of_objects: list[Statistics]) -> Statistics:
    columns = np.array([(s.mean, s.recall, s.decay) for s in statistics_of_objects])
    columns = columns[~np.isnan(columns[:, 0])] if len(columns) else columns
    if not len(columns):
        return Statistics(math.nan, math.nan, math.nan)
    return Statistics(*(float(value) for value in columns.mean(axis=0)))


def _crop(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts both [H, W] to their common box and one pixel around it, where the frame has it.

    That pixel keeps the boundary map right: the last row and column of a frame follow another
    rule, which inside the frame must only meet background.
    """
    height, width = truth.shape
    x, y, box_width, box_height = cv2.boundingRect((pred | truth).view(np.uint8))
    rows = slice(max(y - 1, 0), min(y + box_height + 1, height))
    columns = slice(max(x - 1, 0), min(x + box_width + 1, width))
    return pred[rows, columns], truth[rows, columns]


def _boundary_f(pred: np.ndarray, truth: np.ndarray, radius: int) -> float:
    edges_pred, edges_true = (pack(boundary(mask), radius) for mask in (pred, truth))
    num_pred, num_true = edges_pred.bit_count(), edges_true.bit_count()
    if not num_pred or not num_true:
        return float(num_pred == num_true)
    row = truth.shape[1] + radius
    near_true, near_pred = (dilate_by_disk(e, row, radius) for e in (edges_true, edges_pred))
    precision = (edges_pred & near_true).bit_count() / num_pred
    recall = (edges_true & near_pred).bit_count() / num_true
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))
