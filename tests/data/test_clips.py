"""Which frames and objects make a clip."""

import numpy as np
import pytest

from vos_jax.data import clips


@pytest.mark.parametrize('max_gap', [1, 2, 5])
def test_gaps_are_drawn_from_one_to_the_largest(rng, max_gap):
    gaps = set()
    for _ in range(300):
        indices = clips.draw_frames(rng, 60, 4, max_gap, reverse=0.0)
        assert indices.min() >= 0
        assert indices.max() < 60
        gaps |= set(np.diff(indices).tolist())
    assert gaps == set(range(1, max_gap + 1))


def test_every_frame_can_start_and_end_a_clip(rng):
    drawn = [clips.draw_frames(rng, 6, 4, 1, reverse=0.0) for _ in range(200)]
    assert {tuple(indices) for indices in drawn} == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}


def test_a_short_video_takes_the_largest_gap_that_fits(rng):
    for _ in range(200):
        indices = clips.draw_frames(rng, 8, 4, 25, reverse=0.0)
        assert np.all(np.diff(indices) >= 1)
        assert np.all(np.diff(indices) <= 2)  # 7 steps for 3 gaps


def test_frames_repeat_only_in_a_video_shorter_than_the_clip(rng):
    for num_frames in range(4, 20):
        for _ in range(30):
            assert len(set(clips.draw_frames(rng, num_frames, 4, 25).tolist())) == 4
    assert clips.draw_frames(rng, 2, 4, 25, reverse=0.0).tolist() == [0, 0, 0, 1]
    assert clips.draw_frames(rng, 1, 4, 25).tolist() == [0, 0, 0, 0]


def test_clips_of_one_frame(rng):
    assert {int(clips.draw_frames(rng, 3, 1, 2)[0]) for _ in range(100)} == {0, 1, 2}


def test_the_reference_may_be_any_other_frame_of_the_video(rng):
    drawn = [clips.draw_frames(rng, 7, 4, 2, reverse=0.5, reference='random') for _ in range(400)]
    assert {int(indices[0]) for indices in drawn} == set(range(7))
    assert {int(abs(step)) for indices in drawn for step in np.diff(indices[1:])} == {1, 2}
    assert all(len(set(indices.tolist())) == 4 for indices in drawn)
    # Before, between and after the frames that follow each other.
    assert {int(np.sign(indices[0] - indices[1:]).sum()) for indices in drawn} == {-3, -1, 1, 3}
    short = [clips.draw_frames(rng, 3, 4, 1, reference='random') for _ in range(50)]
    assert {int(indices[0]) for indices in short} == {0, 1, 2}


def test_reversal_plays_the_clip_backwards(rng):
    assert np.all(np.diff(clips.draw_frames(rng, 9, 4, 1, reverse=1.0)) == -1)
    backwards = [clips.draw_frames(rng, 9, 4, 1, reverse=0.5)[0] > 2 for _ in range(400)]
    signs = [np.diff(clips.draw_frames(rng, 9, 4, 1, reverse=0.5))[0] for _ in range(400)]
    assert 150 < sum(sign < 0 for sign in signs) < 250  # 5 standard deviations of 400 coins
    assert any(backwards)


def test_only_objects_visible_enough_are_chosen(rng, draw):
    labels = draw('111.', '22.v', '3v..')
    ids, left_out = clips.choose_objects(rng, labels, num_slots=3, min_pixels=2)
    assert sorted(ids.tolist()) == [0, 1, 2]
    assert left_out == 0


def test_of_too_many_objects_the_most_visible_are_kept(rng, draw):
    labels = draw('1223', '.223', '..4.')
    ids, left_out = clips.choose_objects(rng, labels, num_slots=2, min_pixels=1)
    assert sorted(ids.tolist()) == [2, 3]
    assert left_out == 2


def test_objects_go_into_random_slots(rng, draw):
    found = {
        tuple(clips.choose_objects(rng, draw('12'), num_slots=3, min_pixels=1)[0].tolist())
        for _ in range(300)
    }
    assert len(found) == 6  # 3 places for object 1, 2 for object 2
    assert all(sorted(ids) == [0, 1, 2] for ids in found)


def test_no_object_leaves_all_slots_free(rng, draw):
    ids, left_out = clips.choose_objects(rng, draw('.v'), num_slots=2, min_pixels=1)
    assert ids.tolist() == [0, 0]
    assert left_out == 0


def test_ids_become_slots_and_void_stays_void(draw):
    slots = clips.to_slots(draw('12.', '37v'), np.array([7, 0, 1]))
    np.testing.assert_array_equal(slots, draw('3..', '.1v'))


SHOWN = {
    'always': lambda t: t >= 0,
    'late': lambda t: t >= 30,  # as objects of YouTube-VOS
    'vanishing': lambda t: t % 10 < 2,  # as those of MOSE
    'a few': lambda t: (t >= 17) & (t < 21),
}


def chances_where(shown, reference):
    """f64[4, 40]: chance of each frame in each place of a clip of `draw_frames` that begins where
    shown, by going through all gaps, starts, directions and references."""
    num_gaps = 3 if reference == 'first' else 2
    gaps = 1 + np.stack(np.unravel_index(np.arange(5**num_gaps), (5,) * num_gaps), axis=-1)
    offsets = np.pad(np.cumsum(gaps, axis=1), ((0, 0), (1, 0)))
    clip = (np.arange(40)[:, None, None] + offsets).reshape(-1, num_gaps + 1)
    chance = np.tile(1 / (40 - offsets[:, -1]), 40)[clip[:, -1] < 40]
    clip = clip[clip[:, -1] < 40]
    clip, chance = np.concatenate([clip, clip[:, ::-1]]), np.tile(chance, 2)
    if reference == 'random':
        first = np.tile(np.arange(40), len(clip))[:, None]
        clip, chance = np.repeat(clip, 40, axis=0), np.repeat(chance, 40)
        chance = chance * (clip != first).all(axis=1)
        clip = np.concatenate([first, clip], axis=1)
    chance = chance * shown[clip[:, 0]]
    return np.stack([np.bincount(frames, chance, 40) for frames in clip.T]) / chance.sum()


@pytest.mark.parametrize('reference', ['first', 'random'])
@pytest.mark.parametrize('name', SHOWN)
def test_clips_begin_where_objects_are_and_are_else_as_before(rng, name, reference):
    """5,000 draws against the chances of `draw_frames`, given that it begins there."""
    shown = SHOWN[name](np.arange(40))
    clip = [clips.draw_frames_from(rng, shown, 4, 5, 0.5, reference) for _ in range(5000)]
    assert all(shown[indices[0]] for indices in clip)
    counts = np.stack([np.bincount(frames, minlength=40) for frames in np.transpose(clip)])
    expected = 5000 * chances_where(shown, reference)
    # Less than 5 standard deviations.
    assert np.all(np.abs(counts - expected) <= 5 * np.sqrt(expected + 1))


@pytest.mark.parametrize('reverse', [0.0, 1.0])
def test_an_object_at_the_end_of_a_video_begins_a_clip_too(rng, reverse):
    ends = {t if reverse == 0 else 39 - t for t in (38, 39)}
    shown = np.isin(np.arange(40), list(ends))
    for _ in range(20):
        indices = clips.draw_frames_from(rng, shown, 4, 5, reverse)
        assert indices[0] in ends
        assert np.all(np.diff(indices) * (1 if reverse == 0 else -1) >= 0)
        assert indices.min() >= 0
        assert indices.max() <= 39


def test_where_all_frames_may_begin_nothing_changes():
    for seed in range(50):
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        np.testing.assert_array_equal(
            clips.draw_frames(one, 30, 4, 5), clips.draw_frames_from(other, np.ones(30, bool), 4, 5)
        )
        assert one.random() == other.random()
