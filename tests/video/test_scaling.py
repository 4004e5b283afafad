"""Between the size of the video and that of the model."""

import numpy as np
import pytest

from vos_jax.errors import InputError
from vos_jax.video import scaling


@pytest.mark.parametrize(
    ('size', 'short_side', 'wanted'),
    [
        ((1080, 1920), 480, (480, 853)),
        ((1920, 1080), 480, (853, 480)),
        ((240, 428), 480, (240, 428)),  # nothing is enlarged
        ((1080, 1920), 0, (1080, 1920)),
    ],
)
def test_the_shorter_side_is_the_size(size, short_side, wanted):
    assert scaling.working_size(size, short_side) == wanted


@pytest.mark.parametrize('short_side', [-1, 31])
def test_a_size_that_shows_nothing_is_refused(short_side):
    with pytest.raises(InputError, match=f'--short_side={short_side}'):
        scaling.working_size((480, 854), short_side)


def test_shrinking_labels_makes_no_new_ids(rng):
    labels = rng.choice(np.array([0, 3, 200], np.uint8), (50, 70))
    assert set(np.unique(scaling.shrink_labels(labels, (20, 31)))) <= {0, 3, 200}


def test_enlarging_draws_the_border_between_the_cells():
    # Two columns: object 7 has 1.0 at the left, 0.2 at the right; background the rest.
    objects = np.array([[[1.0, 0.2]]], np.float32)
    labels = scaling.enlarge(np.concatenate([1 - objects, objects]), [7], (1, 8))
    # Centres of the cells are at 1.5 and 5.5; 0.5 is passed at 1.5 + 4 * 0.5 / 0.8 = 4.0.
    assert labels.tolist() == [[7, 7, 7, 7, 0, 0, 0, 0]]


def test_enlarging_takes_the_highest_of_several_objects(rng):
    scores = rng.random((4, 6, 9), np.float32)
    labels = scaling.enlarge(scores, [2, 5, 9], (6, 9))
    np.testing.assert_array_equal(labels, np.array([0, 2, 5, 9])[scores.argmax(axis=0)])


def test_a_shrunk_image_is_aligned_with_its_shrunk_labels():
    labels = np.zeros((40, 60), np.uint8)
    labels[8:24, 12:36] = 1
    image = np.repeat(255 * labels[..., None], 3, axis=2)
    small = scaling.shrink_image(image, (10, 15))
    np.testing.assert_array_equal(small[..., 0] > 127, scaling.shrink_labels(labels, (10, 15)) > 0)
