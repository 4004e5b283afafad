"""Pasting an object over a clip."""

import numpy as np

from vos_jax.data import augment as pasting


def paste(labels, mask, new_id, **options):
    """Pastes a flat object of value 200 over a clip of one frame of value 10."""
    labels = labels[None].copy()
    frames = np.full((*labels.shape, 3), 10, np.uint8)
    donor = np.full_like(frames, 200)
    pasting.paste_object(frames, labels, donor, mask[None].astype(bool), new_id, **options)
    return frames[0], labels[0]


def test_a_pasted_object_covers_what_is_under_it(draw):
    _, labels = paste(draw('11..', '11..'), draw('.11.', '....'), 2)
    np.testing.assert_array_equal(labels, draw('122.', '11..'))


def test_behind_the_objects_only_the_rest_is_seen(draw):
    frame, labels = paste(draw('11..', '11v.'), draw('.11.', '.11.'), 2, behind=True)
    np.testing.assert_array_equal(labels, draw('112.', '112.'))
    assert np.all(frame[labels != 2] == 10)


def test_the_middle_of_the_object_is_seen_as_it_is_and_nothing_around_it_changes(draw):
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7] = 1
    frame, labels = paste(np.zeros((9, 9), np.uint8), mask, 1)
    np.testing.assert_array_equal(labels, mask)
    assert np.all(frame[3:6, 3:6] == 200)
    assert np.all(frame[mask == 0] == 10)
    edge = frame[2, 3:6]
    assert np.all((edge > 105) & (edge < 200))


def test_an_object_that_has_left_changes_nothing(draw):
    frame, labels = paste(draw('1.'), draw('..'), 2)
    np.testing.assert_array_equal(labels, draw('1.'))
    assert np.all(frame == 10)


def test_the_smallest_free_id_is_taken(draw):
    assert pasting.free_id(draw('..v')) == 1
    assert pasting.free_id(draw('1.3')) == 2
    assert pasting.free_id(np.array([[1, 2], [3, 255]], np.uint8)) == 4
