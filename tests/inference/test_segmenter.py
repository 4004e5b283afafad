import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from tests.models.tiny import CLIP, SIZE, SPEC, clip, giel, runner, variables_of
from vos_jax import weights
from vos_jax.config.schema import MemorySpec
from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter, num_slots_for

VIDEO = clip(length=12)['frames'][0]
MASKS = CLIP['labels'][0, 0]  # ids 1 and 2
NEW = np.zeros(SIZE, np.uint8)  # two more objects
NEW[12:16, 2:6], NEW[12:16, 20:24] = 3, 4


def segmenter(**settings):
    """One with room for three frames at once, so that all tests share a compilation."""
    memory = MemorySpec(**{'size': 3, **settings})
    return Segmenter(runner().model, runner().variables, memory=memory)


def play(segmenter, masks=MASKS, frames=VIDEO[:4], **settings):
    """Labels and probabilities of the frames after the first."""
    segmenter.start(frames[0], masks, **settings)
    results = [segmenter.step(frame, probabilities=True) for frame in frames[1:]]
    return [np.stack(part) for part in zip(*results, strict=True)]


@pytest.fixture(scope='module')
def played():
    return play(segmenter())


def test_each_object_count_has_a_bucket_of_slots():
    counts = (1, 2, 3, 4, 6, 7, 12, 13)
    assert [num_slots_for(n) for n in counts] == [1, 3, 3, 6, 6, 12, 12, 18]


def test_labels_are_the_most_probable_objects(played):
    labels, probabilities = played
    assert labels.dtype == np.uint8
    assert labels.shape == (3, *SIZE)
    assert probabilities.shape == (3, 3, *SIZE)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=1))
    assert set(np.unique(labels)) == {0, 1, 2}


def test_start_gives_the_given_ids_back():
    masks = MASKS.copy()
    masks[0] = 255
    labels = segmenter().start(VIDEO[0], masks)
    np.testing.assert_array_equal(labels, np.where(masks == 255, 0, masks))


def test_ids_may_have_gaps(played):
    table = np.array([0, 7, 200], np.uint8)
    gaps = segmenter()
    labels, probabilities = play(gaps, table[MASKS])
    assert gaps.ids == (7, 200)
    np.testing.assert_array_equal(labels, table[played[0]])
    np.testing.assert_array_equal(probabilities, played[1])


def test_void_in_the_first_masks_belongs_to_no_object(played):
    masks = MASKS.copy()
    masks[-3:] = 255
    np.testing.assert_array_equal(play(segmenter(), masks)[1], played[1])


def test_a_new_video_forgets_the_last_one(played):
    again = segmenter()
    play(again, np.where(MASKS == 1, 9, 0).astype(np.uint8), VIDEO[5:8])
    np.testing.assert_array_equal(play(again)[1], played[1])
    assert again.ids == (1, 2)


def test_a_frame_buffer_may_be_used_again(played):
    reader = segmenter()
    buffer = VIDEO[0].copy()
    reader.start(buffer, MASKS)
    for time in range(1, 4):
        buffer[:] = VIDEO[time]
        labels = reader.step(buffer)
        np.testing.assert_array_equal(labels, played[0][time - 1])


def test_room_for_more_objects_changes_nothing(played):
    _, probabilities = play(segmenter(), num_objects=4)
    np.testing.assert_allclose(probabilities, played[1], atol=1e-5)


def test_added_objects_are_written_over_the_frame_and_followed():
    video = segmenter()
    play(video)
    before = video.step(VIDEO[4])
    labels = video.add_objects(np.where(NEW == 3, 3, 0).astype(np.uint8))
    assert video.ids == (1, 2, 3)
    np.testing.assert_array_equal(labels, np.where(NEW == 3, 3, before))
    _, probabilities = video.step(VIDEO[5], probabilities=True)
    assert probabilities.shape == (4, *SIZE)
    assert probabilities[3].max() > 0


def test_more_slots_in_the_middle_of_a_video_change_nothing():
    # Two objects in three slots, then four in six; against six slots from the start.
    results = []
    for num_objects in (None, 4):
        video = segmenter()
        play(video, num_objects=num_objects)
        video.add_objects(NEW)
        results.append(video.step(VIDEO[4], probabilities=True)[1])
    assert results[0].shape == (5, *SIZE)
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_objects_may_be_added_to_the_first_frame(played):
    video = segmenter()
    video.start(VIDEO[0], np.where(MASKS == 1, 1, 0).astype(np.uint8), num_objects=2)
    labels = video.add_objects(np.where(MASKS == 2, 2, 0).astype(np.uint8))
    np.testing.assert_array_equal(labels, MASKS)
    _, probabilities = video.step(VIDEO[1], probabilities=True)
    np.testing.assert_allclose(probabilities, played[1][0], atol=1e-6)


def test_a_correction_takes_pixels_from_other_objects_and_is_memorised(played):
    video = segmenter()
    labels, _ = play(video, frames=VIDEO[:3])
    correction = np.where(labels[-1] == 2, 1, 0).astype(np.uint8)
    corrected = video.add_objects(correction)
    assert video.ids == (1, 2)
    assert set(np.unique(corrected)) == {0, 1}
    _, probabilities = video.step(VIDEO[3], probabilities=True)
    assert abs(probabilities - played[1][-1]).max() > 1e-3


def test_with_the_first_frame_as_memory_those_between_have_no_influence():
    last = [
        play(segmenter(policy='first'), frames=frames)[1][-1]
        for frames in (VIDEO[:4], VIDEO[[0, 7, 8, 3]])
    ]
    np.testing.assert_array_equal(*last)


def test_memory_stays_constant_on_a_long_video():
    video = segmenter(capacity=4)
    video.start(VIDEO[0], MASKS)
    num_entries, num_bytes = [], []
    for frame in np.concatenate([VIDEO, VIDEO])[1:]:
        video.step(frame)
        state = video.state()
        num_entries.append(len(state['entries']))
        num_bytes.append(sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(state)))
    assert max(num_entries) == 3  # and the last frame, which is memorised at the next step
    assert max(num_bytes[12:]) == max(num_bytes[:12])


@pytest.fixture
def started():
    video = segmenter()
    video.start(VIDEO[0], MASKS)
    return video


WRONG_FRAMES = {
    'another size': (VIDEO[0, 1:], r'size \(18, 27\) in a video of size \(19, 27\); scale'),
    'floats': (VIDEO[0] / 255, r'float64\[19, 27, 3\]; needed: uint8 \[height, width, 3\], RGB'),
    'grey': (VIDEO[0, ..., 0], r'uint8\[19, 27\]; needed: uint8 \[height, width, 3\]'),
    'alpha': (np.zeros((*SIZE, 4), np.uint8), r'uint8\[19, 27, 4\]; needed'),
}


@pytest.mark.parametrize(('frame', 'line'), WRONG_FRAMES.values(), ids=WRONG_FRAMES.keys())
def test_a_wrong_frame_is_refused_and_the_video_continues(started, played, frame, line):
    with pytest.raises(InputError, match=line):
        started.step(frame)
    np.testing.assert_array_equal(started.step(VIDEO[1]), played[0][0])


WRONG_MASKS = {
    'another size': (MASKS[1:], r'uint8\[18, 27\]; needed: uint8 \[19, 27\], object ids'),
    'colours': (np.zeros((*SIZE, 3), np.uint8), r'uint8\[19, 27, 3\]; needed'),
    'wide integers': (MASKS.astype(np.int64), r'int64\[19, 27\]; needed'),
    'empty': (np.zeros(SIZE, np.uint8), 'show no object; give at least one pixel an id 1..254'),
    'void alone': (np.full(SIZE, 255, np.uint8), 'show no object'),
}


@pytest.mark.parametrize(('masks', 'line'), WRONG_MASKS.values(), ids=WRONG_MASKS.keys())
def test_wrong_first_masks_are_refused(masks, line):
    with pytest.raises(InputError, match=line):
        segmenter().start(VIDEO[0], masks)


def test_nothing_can_be_done_before_a_video_has_begun():
    for act in (lambda video: video.step(VIDEO[1]), lambda video: video.add_objects(NEW)):
        with pytest.raises(InputError, match='call start'):
            act(segmenter())


def test_weights_of_a_file_segment_as_those_they_were_made_of(tmp_path, played):
    config = {
        'model': {'name': 'giel', 'dtype': 'float32', **dataclasses.asdict(SPEC)},
        'inference': {'memory': {'policy': 'sample', 'size': 3, 'every': 5, 'capacity': 64}},
    }
    path = tmp_path / 'tiny.npz'
    weights.export_weights(path, runner().variables, config)
    np.testing.assert_array_equal(play(Segmenter.from_pretrained(path))[1], played[1])


def test_weights_that_do_not_come_with_the_project_are_refused():
    with pytest.raises(InputError, match=r'giel_huge: no such file.*one of giel_lite, giel_small'):
        Segmenter.from_pretrained('giel_huge')


@pytest.mark.parametrize('bound', [False, True])
def test_one_compilation_for_each_frame_size_and_number_of_slots(bound):
    model = giel(variant='fast', key_channels=4 + bound)  # as no other test uses it
    variables = variables_of(model)
    if bound:  # to a device, as those of a training are
        variables = jax.device_put(variables, jax.devices()[0])
    video = Segmenter(model, variables, memory=MemorySpec(size=3))
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    pairs = set()
    for size, num_objects in (((16, 24), 1), ((16, 24), 2), ((16, 24), 3), ((24, 16), 2)):
        scene = clip(length=4, size=size, num_objects=num_objects)
        play(video, scene['labels'][0, 0], scene['frames'][0])
        pairs.add((size, num_slots_for(num_objects)))
        found = sum('backend_compile' in name for name in events)
        assert found == len(pairs), (size, num_objects)
    assert len(pairs) == 3


def changed(change):
    """A segmenter of the weights that come with the project, but for one array."""
    loaded = weights.load_weights(weights.find('giel_small'))
    arrays = dict(weights.named(loaded.variables))
    change(arrays, next(name for name in sorted(arrays) if name.endswith('kernel')))
    return Segmenter.from_config(
        loaded.config, traverse_util.unflatten_dict(arrays, sep='/'), where='w.npz'
    )


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda arrays, name: arrays.pop(name), r"w\.npz has no '.*kernel', which this config"),
        (lambda arrays, name: arrays.update({'params/more': np.ones(1)}), "has 'params/more'"),
        (lambda arrays, name: arrays.update({name: arrays[name][..., :1]}), 'of shape .* needs'),
        (lambda arrays, name: arrays.update({name: arrays[name].astype(int)}), 'in int64'),
    ],
)
def test_arrays_that_do_not_fit_the_config_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        changed(change)
