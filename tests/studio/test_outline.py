"""The mask of an object from a box or from scribbles."""

import numpy as np
import pytest

from tests.video import samples
from vos_jax.data import scenes
from vos_jax.errors import InputError
from vos_jax.studio.outline import outline

SIZE = (480, 854)


def drawn(seed):
    """(u8[H, W, 3], bool[H, W]): a square on a grid, a textured object in a textured scene."""
    if seed is None:
        return samples.draw(3, SIZE), samples.first_mask(SIZE, 3) == 1
    frames, labels = scenes.render_sequence(np.random.default_rng(seed), 2, SIZE, max_objects=1)
    return frames[0], labels[0] == 1


def box_around(mask, margin=5):
    rows, columns = np.nonzero(mask)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    return [float(v) for v in (*np.subtract(low, margin), *np.add(high, margin))]


def overlap(found, truth):
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


@pytest.mark.parametrize('seed', [None, 3, 5, 7], ids=['drawn', 'scene 3', 'scene 5', 'scene 7'])
def test_a_box_finds_the_object(seed):
    image, truth = drawn(seed)
    found = outline(image, np.zeros(SIZE, np.uint8), 1, box=box_around(truth))
    assert overlap(found, truth) > 0.9
    again = outline(image, np.zeros(SIZE, np.uint8), 1, box=box_around(truth))
    np.testing.assert_array_equal(found, again)


def test_a_scribble_finds_the_object_and_corrects_it_nearby():
    image, truth = drawn(None)
    none = np.zeros(SIZE, np.uint8)
    left, top, right, bottom = box_around(truth, -2)
    cross = [
        {'inside': True, 'points': [(left, top), (right, bottom)]},
        {'inside': True, 'points': [(left, bottom), (right, top)]},
    ]
    assert overlap(outline(image, none, 1, scribbles=cross, radius=1), truth) > 0.9
    # A mask that is too wide at the right, and another patch of the object far away.
    wide = np.where(truth | np.roll(truth, 8, axis=1), 1, 0).astype(np.uint8)
    wide[300:320, 500:520] = 1
    away = {'inside': False, 'points': [(right + 7, top), (right + 7, bottom)]}
    found = outline(image, wide, 1, scribbles=[away], radius=1)
    assert overlap(found[:200], truth[:200]) > 0.9
    assert found[300:320, 500:520].all()


def test_pixels_of_other_objects_stay_theirs():
    image, truth = drawn(None)
    labels = np.zeros(SIZE, np.uint8)
    labels[:20][truth[:20]] = 2
    found = outline(image, labels, 1, box=box_around(truth))
    assert not found[labels == 2].any()
    assert overlap(found, truth & (labels == 0)) > 0.9


WRONG = {
    'nothing': {},
    'an empty box': {'box': [10.0, 10.0, 10.0, 10.0]},
    'a box outside': {'box': [900.0, 500.0, 1e308, 1e308]},
    'a scribble outside': {'scribbles': [{'inside': True, 'points': [(1e300, -1e300)]}]},
    'a scribble without points': {'scribbles': [{'inside': True, 'points': []}]},
    'too many points': {'scribbles': [{'inside': True, 'points': [(1, 1)] * 20_000}]},
    'only the background': {'scribbles': [{'inside': False, 'points': [(9, 9), (99, 99)]}]},
}


@pytest.mark.parametrize('hint', WRONG.values(), ids=WRONG.keys())
def test_a_hint_without_an_object_is_refused(hint):
    image, _ = drawn(None)
    with pytest.raises(InputError, match='draw'):
        outline(image, np.zeros(SIZE, np.uint8), 1, radius=1e308, **hint)


def test_the_whole_frame_is_a_box_too():
    image, truth = drawn(None)
    found = outline(image[:40, :50], np.zeros((40, 50), np.uint8), 1, box=[-9.0, -9.0, 99.0, 99.0])
    assert overlap(found, truth[:40, :50]) > 0.9
