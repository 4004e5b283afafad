"""The Python API beyond start and step: corrections, known frames, iterator, batch, states."""

import dataclasses

import numpy as np
import pytest

from tests.inference.test_segmenter import MASKS, NEW, VIDEO, play, segmenter
from tests.models.tiny import SIZE, runner
from vos_jax.errors import InputError
from vos_jax.inference.batch import segment_videos
from vos_jax.inference.segmenter import Segmenter


def test_a_correction_replaces_background_too_and_keeps_what_is_255():
    video = segmenter()
    before, _ = play(video)
    labels = np.zeros(SIZE, np.uint8)
    labels[:9], labels[2:6, 2:6] = 255, 2
    corrected = video.correct(labels)
    np.testing.assert_array_equal(corrected[9:], 0)
    np.testing.assert_array_equal(corrected[2:6, 2:6], 2)
    stays = labels == 255
    np.testing.assert_array_equal(corrected[stays], before[-1][stays])
    np.testing.assert_array_equal(video.probabilities().argmax(axis=0), corrected)


def test_a_corrected_first_frame_is_one_that_was_given_so():
    video, other = segmenter(), segmenter()
    wrong = np.roll(MASKS, 5, axis=1)
    video.start(VIDEO[0], np.where(wrong > 0, 3 - wrong, 0).astype(np.uint8))
    video.correct(MASKS)
    other.start(VIDEO[0], MASKS)
    _, wanted = other.step(VIDEO[1], probabilities=True)
    _, found = video.step(VIDEO[1], probabilities=True)
    order = [0, *(1 + video.ids.index(number) for number in other.ids)]
    np.testing.assert_allclose(found[order], wanted, atol=1e-5)


def test_an_observed_frame_is_remembered_like_a_corrected_one():
    corrected, observed = segmenter(), segmenter()
    labels, _ = play(corrected, frames=VIDEO[:3])
    observed.start(VIDEO[0], MASKS)
    observed.observe(VIDEO[1], labels[0], given=False)
    for video in (corrected, observed):
        video.start(VIDEO[0], MASKS)
    corrected.step(VIDEO[1])
    corrected.correct(np.where(NEW > 0, NEW, MASKS))
    observed.observe(VIDEO[1], np.where(NEW > 0, NEW, MASKS))
    assert corrected.ids == observed.ids == (1, 2, 3, 4)
    wanted, found = (v.step(VIDEO[2], probabilities=True)[1] for v in (corrected, observed))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_observed_frames_may_lie_apart():
    near, far = segmenter(), segmenter()
    for video, after in ((near, 1), (far, 30)):
        video.start(VIDEO[0], MASKS)
        video.observe(VIDEO[3], MASKS, after=after)
        video.step(VIDEO[4])
    assert far.state()['time'] == 31
    assert sorted(far.state()['entries']) == [0, 30]
    assert sorted(near.state()['entries']) == [0, 1]
    with pytest.raises(InputError, match='after=0: the frame comes at least 1 after'):
        far.observe(VIDEO[5], MASKS, after=0)


def test_a_video_is_segmented_by_iterating():
    wanted, probabilities = play(segmenter())
    found = list(segmenter().segment(iter(VIDEO[:4]), MASKS, probabilities=True))
    np.testing.assert_array_equal(found[0][0], MASKS)
    np.testing.assert_array_equal(found[0][1].argmax(axis=0), MASKS)
    np.testing.assert_array_equal([labels for labels, _ in found[1:]], wanted)
    np.testing.assert_allclose([maps for _, maps in found[1:]], probabilities, atol=1e-6)


def test_masks_of_later_frames_are_written_over_their_results():
    *_, labels = segmenter().segment(VIDEO[:3], {0: MASKS, 2: NEW})
    np.testing.assert_array_equal(labels[NEW > 0], NEW[NEW > 0])
    assert {1, 2} & set(np.unique(labels))
    with pytest.raises(InputError, match='no masks of frame 0'):
        next(segmenter().segment(VIDEO, {2: NEW}))


@pytest.mark.slow
def test_videos_in_a_batch_are_segmented_as_each_alone():
    one = np.where(MASKS == 1, 1, 0).astype(np.uint8)
    videos = [(VIDEO[:4], MASKS), (VIDEO[5:8], MASKS), (VIDEO[4:6, ::-1], one), (VIDEO[2:7], MASKS)]
    results = {(v, t): labels for v, t, labels in segment_videos(segmenter(), videos, batch_size=2)}
    assert sorted(results) == [(v, t) for v, (f, _) in enumerate(videos) for t in range(len(f))]
    for index, (frames, masks) in enumerate(videos):
        for time, wanted in enumerate(segmenter().segment(frames, masks)):
            # Ties between objects may fall either way in another program.
            assert np.mean(results[index, time] != wanted) < 0.01, (index, time)


def test_a_batch_of_one_takes_all_videos_in_turn():
    videos = [(VIDEO[:2], MASKS), (VIDEO[:0], MASKS), (VIDEO[2:4], MASKS)]
    found = [(v, t) for v, t, _ in segment_videos(segmenter(), iter(videos), batch_size=1)]
    assert found == [(0, 0), (0, 1), (2, 0), (2, 1)]
    with pytest.raises(InputError, match='batch_size=0'):
        next(segment_videos(segmenter(), videos, batch_size=0))


def test_a_saved_state_resumes_as_if_nothing_had_happened(tmp_path):
    video, other = segmenter(), segmenter()
    play(video)
    video.add_objects(NEW)
    video.save(tmp_path / 'state.npz')
    other.load(tmp_path / 'state.npz')
    assert other.ids == video.ids
    for time in (4, 5):
        wanted, found = (v.step(VIDEO[time], probabilities=True)[1] for v in (video, other))
        np.testing.assert_array_equal(found, wanted)
    assert [path.name for path in tmp_path.iterdir()] == ['state.npz']


def test_states_that_do_not_belong_are_refused_and_the_video_continues(tmp_path):
    video, path = segmenter(), tmp_path / 'state.npz'
    play(video, frames=VIDEO[:3])
    with pytest.raises(InputError, match='no such file; write one'):
        video.load(path)
    changed = {**runner().variables, 'more': {'x': np.ones(1, np.float32)}}
    other = Segmenter(runner().model, changed)
    other.start(VIDEO[0], MASKS)
    other.save(path)
    with pytest.raises(InputError, match='made by other weights'):
        video.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match='not a whole state'):
        video.load(path)
    spec = dataclasses.replace(runner().model.spec, key_channels=4)
    narrow = Segmenter(runner().model.clone(spec=spec), {})
    state = video.state()
    with pytest.raises(InputError, match='state is that of another model'):
        narrow.restore({**state, 'previous': state['previous'][:2]})
    np.testing.assert_array_equal(video.step(VIDEO[3]), play(segmenter())[0][-1])
