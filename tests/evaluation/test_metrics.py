import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from vos_jax.evaluation import metrics
from vos_jax.evaluation.metrics import (
    boundary,
    boundary_f,
    count_objects,
    jaccard,
    score_frame,
    score_sequence,
    statistics,
    summarise,
)
from vos_jax.storage.palette import VOID

MASKS = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=24).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def mask(drawing):
    return np.array([[pixel == '#' for pixel in row] for row in drawing.split()])


def labels(drawing):
    return np.array([[int(pixel) for pixel in row] for row in drawing.split()], np.uint8)


def test_jaccard_of_a_shifted_square():
    truth = mask('##.. ##..')
    prediction = mask('.##. .##.')
    assert jaccard(prediction, truth) == 2 / 6


def test_jaccard_of_two_empty_masks_is_one():
    assert jaccard(mask('.... ....'), mask('.... ....')) == 1


def test_jaccard_is_zero_when_one_mask_is_empty():
    assert jaccard(mask('.... ....'), mask('#... ....')) == 0


@pytest.mark.parametrize(
    ('drawing', 'expected'),
    [
        ('.... .#.. .... ....', '##.. ##.. .... ....'),  # inside: half a pixel to the origin
        ('.#.. .... .... ....', '##.. .... .... ....'),  # first row: two
        ('#... .... .... ....', '#... .... .... ....'),  # first corner: one
        ('.... .... .... ...#', '.... .... ..## ..#.'),  # last corner: three
        ('.... .... .... #...', '.... .... #... #...'),  # the other corners: two
        ('...# .... .... ....', '..## .... .... ....'),
        ('#### #### #### ####', '.... .... .... ....'),  # none along the image border
    ],
)
def test_boundary_lies_half_a_pixel_towards_the_origin(drawing, expected):
    np.testing.assert_array_equal(boundary(mask(drawing)), mask(expected))


def test_a_frame_that_is_all_object_has_full_f_against_nothing():
    full, empty = np.ones((48, 64), bool), np.zeros((48, 64), bool)
    assert (jaccard(empty, full), boundary_f(empty, full)) == (0, 1)


def test_a_ring_around_the_object_has_f_but_no_j():
    truth = np.zeros((240, 427), bool)
    truth[100:140, 100:140] = True
    ring = np.zeros_like(truth)
    ring[97:143, 97:143] = True
    ring &= ~truth
    assert jaccard(ring, truth) == 0
    assert boundary_f(ring, truth) > 0.8


@pytest.mark.parametrize(('size', 'radius'), [((480, 854), 8), ((240, 427), 4), ((48, 64), 1)])
def test_a_translation_within_the_tolerance_costs_nothing(size, radius):
    assert metrics.tolerance_px(size) == radius
    truth = np.zeros(size, bool)
    truth[20:30, 20:40] = True
    assert boundary_f(np.roll(truth, radius, axis=1), truth) == 1
    assert boundary_f(np.roll(truth, radius + 1, axis=1), truth) < 1


def test_f_worked_out_by_hand():
    # 48x64: the tolerance is 1. A single pixel has 4 boundary pixels, its copy two columns on has
    # 4 more; the two that face each other are one column apart, so half of each side matches.
    truth, prediction = np.zeros((2, 48, 64), bool)
    truth[10, 10] = prediction[10, 12] = True
    assert boundary_f(prediction, truth) == 0.5


@pytest.mark.parametrize('radius', range(20))
def test_dilation_marks_exactly_the_disk(radius):
    edges = np.zeros((50, 50), np.uint8)
    edges[25, 25] = edges[3, 48] = 1
    y, x = np.ogrid[:50, :50]
    near = [(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in ((25, 25), (3, 48))]
    dilated = metrics.dilate_by_disk(metrics.pack(edges, radius), 50 + radius, radius)
    inside = metrics.pack(np.ones((50, 50), bool), radius)
    assert dilated & inside == metrics.pack(near[0] | near[1], radius)


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_measures_are_symmetric_and_within_bounds(masks):
    a, b = masks
    assert jaccard(a, b) == jaccard(b, a)
    assert math.isclose(boundary_f(a, b), boundary_f(b, a), rel_tol=1e-15)  # p r / (p + r)
    assert 0 <= jaccard(a, b) <= 1
    assert 0 <= boundary_f(a, b) <= 1


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_identical_masks_score_one(masks):
    assert jaccard(masks[0], masks[0]) == boundary_f(masks[0], masks[0]) == 1


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_f_agrees_with_the_definition_pixel_by_pixel(masks):
    assert math.isclose(boundary_f(*masks), _f_by_definition(*masks), rel_tol=1e-12)


@given(MASKS, st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_cropping_does_not_change_f(masks, top, left):
    # Far from the border of a large frame the scores do not depend on the place.
    placed = np.zeros((2, 96, 96), bool)
    height, width = masks[0].shape
    placed[:, top + 4 : top + 4 + height, left + 4 : left + 4 + width] = masks
    corner = np.roll(placed, (-top, -left), axis=(1, 2))
    assert boundary_f(*placed) == boundary_f(*corner)


def _f_by_definition(pred, truth):
    """F with nothing clever: the distance of each boundary pixel to each of the other mask."""
    points = [np.argwhere(_boundary_by_definition(m)) for m in (pred, truth)]
    if not len(points[0]) or not len(points[1]):
        return float(len(points[0]) == len(points[1]))
    squares = ((points[0][:, None] - points[1][None]) ** 2).sum(axis=-1)
    near = squares <= math.ceil(0.008 * math.hypot(*truth.shape)) ** 2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary_by_definition(m):
    height, width = m.shape
    neighbours = [(0, 1), (1, 0), (1, 1)]
    found = np.zeros_like(m)
    for y in range(height):
        for x in range(width):
            for dy, dx in neighbours:
                # On the last row and column a missing neighbour is the pixel itself.
                found[y, x] |= m[y, x] != m[min(y + dy, height - 1), min(x + dx, width - 1)]
    return found


def test_first_and_last_frame_are_not_scored():
    truth = [labels('1100 1100')] * 5
    wrong = labels('0000 0000')
    scores = score_sequence([wrong, truth[1], truth[2], truth[3], wrong], truth, 1)
    np.testing.assert_array_equal(scores.J, [[1, 1, 1]])


def test_void_is_background_and_a_missing_object_is_empty():
    truth = labels('1120 1120').copy()
    truth[0, 0] = VOID
    scores_j, _ = score_frame(labels('1100 1100'), truth, (1, 2))
    assert scores_j == [3 / 4, 0]


def test_number_of_objects_is_the_largest_id_without_void():
    first = labels('0130 0130')
    first[0, 0] = VOID
    assert count_objects(first) == 3
    assert count_objects(np.zeros((2, 2), np.uint8)) == 0


def test_an_id_gap_scores_one():
    truth = [labels('1130 1130')] * 3
    scores = score_sequence(truth, truth, count_objects(truth[0]))
    np.testing.assert_array_equal(scores.J, [[1], [1], [1]])


def test_two_frames_leave_nothing_to_score():
    with pytest.raises(ValueError, match='at least 3'):
        score_sequence([labels('1')] * 2, [labels('1')] * 2, 1)


def test_a_size_that_differs_is_refused():
    with pytest.raises(ValueError, match=r'\(1, 1\).*\(2, 4\)'):
        score_frame(labels('1'), labels('1100 1100'), (1,))


def test_recall_is_strict_at_one_half():
    assert statistics(np.array([0.5, 0.5, 0.51, 0.4])).recall == 0.25


def test_decay_bins_share_their_edges():
    # n = 5: edges 0, 1, 2, 3, 4; first bin 1.0 and 0.8, last bin 0.4 and 0.2.
    assert statistics(np.array([1.0, 0.8, 0.6, 0.4, 0.2])).decay == pytest.approx(0.6)


def test_decay_of_one_frame_is_zero():
    assert statistics(np.array([0.7])).decay == 0


def test_decay_edges_of_long_sequences_do_not_wrap():
    assert metrics.decay_edges(401) == [0, 100, 200, 300, 400]


def test_frames_in_which_an_object_is_not_scored_are_left_out():
    assert statistics(np.array([np.nan, 1.0, 0.5])).mean == 0.75
    assert math.isnan(statistics(np.array([np.nan])).mean)


def test_objects_weigh_the_same_whatever_their_sequence():
    one = metrics.SequenceScores(np.ones((1, 9)), np.ones((1, 9)))
    two = metrics.SequenceScores(np.zeros((2, 3)), np.full((2, 3), 0.25))
    summary = summarise({'a': one, 'b': two})
    assert summary.J.mean == pytest.approx(1 / 3)
    assert summary.F.mean == pytest.approx(0.5)
    assert summary.jf == pytest.approx(5 / 12)


def _record(shared, part):
    root = shared(f'parity/metrics/{part}')
    with np.load(root / 'expected/per_frame.npz') as file:
        per_frame = dict(file)
    return root, per_frame, json.loads((root / 'expected/stats.json').read_text())


def _read(folder):
    return [np.array(Image.open(path)) for path in sorted(folder.glob('*.png'))]


def _check(name, scores, per_frame, stats):
    # 1e-9: ratios of the same counts; the record promises 1e-6.
    np.testing.assert_allclose(scores.J, np.atleast_2d(per_frame[f'{name}/J']), atol=1e-9)
    np.testing.assert_allclose(scores.F, np.atleast_2d(per_frame[f'{name}/F']), atol=1e-9)
    for row, expected in enumerate(stats):
        for measure in ('J', 'F'):
            got = statistics(getattr(scores, measure)[row])
            assert got.mean == pytest.approx(expected[measure]['mean'], abs=1e-9)
            assert got.recall == pytest.approx(expected[measure]['recall'], abs=1e-9)
            assert got.decay == pytest.approx(expected[measure]['decay'], abs=1e-9)


def test_val_record_of_the_official_tool(shared):
    root, per_frame, stats = _record(shared, 'val')
    for name, objects in stats['sequences'].items():
        truth = _read(root / 'Annotations/480p' / name)
        scores = score_sequence(_read(root / 'predictions' / name), truth, count_objects(truth[0]))
        _check(name, scores, per_frame, objects.values())


def test_long_record_with_the_right_decay(shared):
    root, per_frame, stats = _record(shared, 'long')
    with np.load(root / 'masks.npz') as masks:
        for name, objects in stats['sequences'].items():
            truth = masks[f'{name}/annotations']
            scores = score_sequence(masks[f'{name}/predictions'], truth, count_objects(truth[0]))
            _check(name, scores, per_frame, objects.values())


def test_davis2016_record(shared):
    root, per_frame, stats = _record(shared, 'davis2016')
    for name, expected in stats['sequences'].items():
        truth = [(m > 0).astype(np.uint8) for m in _read(root / 'Annotations/480p' / name)]
        pred = [(m > 0).astype(np.uint8) for m in _read(root / 'predictions' / name)]
        _check(name, score_sequence(pred, truth, 1), per_frame, [expected])
