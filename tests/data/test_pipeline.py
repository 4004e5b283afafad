"""Training batches: pure functions of seed and step, aligned, with what the settings ask for."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from absl import flags
from PIL import Image

from vos_jax.config.read import read
from vos_jax.config.schema import DataSpec, value_at
from vos_jax.data import pipeline
from vos_jax.data.masks import write_labels
from vos_jax.data.mixture import Sources
from vos_jax.errors import InputError


@pytest.fixture(autouse=True)
def parsed_flags():
    """Grain reads a flag of its own before it starts a process."""
    flags.FLAGS(sys.argv[:1])


@pytest.fixture
def data(write_set, moving_squares):
    """Settings for two videos of one and three objects."""
    root = write_set({'one': moving_squares(1, 9), 'three': moving_squares(3, 9)})
    return {
        'sources': [{'root': str(root)}],
        'batch_size': 4,
        'crop': (32, 40),
        'clip_length': 3,
        'num_slots': 3,
        'min_pixels': 20,
    }


def read_data(settings):
    return read(DataSpec, settings, 'data')


def take(data, count, **options):
    options = {'seed': 0} | options
    return list(itertools.islice(pipeline.make_batches(read_data(data), **options), count))


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


WILD = {
    'gap': ((0, 1), (2, 3)),
    'rotation': 20.0,
    'shear': 5.0,
    'jitter': {'rotation': 4.0, 'shift': 0.02},
    'colour': {'brightness': 0.1, 'grey': 0.2},
    'paste': {'probability': 0.7, 'objects': 2},
}


def test_a_window_deals_its_clips_by_their_objects(data):
    data |= {'slot_window': 4, 'paste': {'probability': 0.0}}
    maker = pipeline.BatchMaker(read_data(data), 0)
    sources = Sources(read_data(data).sources, 0)
    drawn = [[sources.locate(index)[2] for index in range(w * 16, (w + 1) * 16)] for w in range(3)]
    for window, videos in enumerate(drawn):
        names = [maker.names(step) for step in range(window * 4, (window + 1) * 4)]
        wanted = [f'{sources.names[0]}/{sources.sequences[0][video].name}' for video in videos]
        assert sorted(itertools.chain(*names)) == sorted(wanted)
        assert sum(len(set(batch)) > 1 for batch in names) <= 1  # others have one kind of video
    batches = take(data, 12)
    used = [batch['objects'].any(axis=0).sum() for batch in batches]
    assert sorted(set(used)) == [1, 3]
    assert used[:4] != sorted(used[:4]) or used[4:8] != sorted(used[4:8])  # not in order
    for batch in batches:  # the first slots
        assert (np.diff(batch['objects'].astype(int)) <= 0).all()
        assert batch['labels'][batch['labels'] < 255].max() <= batch['objects'].sum(axis=1).max()


def test_a_window_gives_the_same_batches_from_any_step_and_to_any_number_of_processes(data):
    data |= {'slot_window': 3, **WILD}
    whole = take(data, 8)
    assert_same(take(data, 3, start_step=5), whole[5:])
    parts = [take(data, 8, process_index=index, process_count=2) for index in (0, 1)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts)]
    assert_same(joined, whole)


def test_forms_of_a_batch(data):
    (batch,) = take(data, 1)
    assert {name: (array.dtype, array.shape) for name, array in batch.items()} == {
        'frames': (np.uint8, (4, 3, 32, 40, 3)),
        'labels': (np.uint8, (4, 3, 32, 40)),
        'objects': (bool, (4, 3)),
    }


def test_objects_are_those_seen_in_the_first_frame(data):
    for batch in take(data | WILD, 10):
        for labels, objects in zip(batch['labels'], batch['objects']):
            counts = np.bincount(labels[0].ravel(), minlength=4)[1:4]
            np.testing.assert_array_equal(counts >= 20, objects)
            assert objects.any()
            assert set(np.unique(labels)) <= {0, *(1 + np.flatnonzero(objects))}


def test_frames_show_what_the_labels_say(data):
    # Frames are painted 60 times the id, so inside of a slot's region there is one colour.
    wanted = {'rotation': 20.0, 'jitter': {'rotation': 4.0, 'shift': 0.2}}
    wanted |= {'paste': {'probability': 0.5}}
    for batch in take(data | wanted, 20):
        for frames, labels in zip(batch['frames'], batch['labels']):
            for slot in range(1, 4):
                inside = [_shrink(mask == slot) for mask in labels]
                colours = np.unique(frames[np.array(inside)])
                assert colours.tolist() in ([], [60], [120], [180])


def _shrink(mask):
    """Takes two pixels off, at the border of the image too."""
    kernel, border = np.ones((5, 5)), cv2.BORDER_CONSTANT
    return cv2.erode(mask.astype(np.uint8), kernel, borderType=border, borderValue=0) > 0


def test_a_batch_follows_from_seed_and_step(data):
    data = data | WILD
    batches = take(data, 5)
    assert_same(batches, take(data, 5))
    assert_same(batches[3:], take(data, 2, start_step=3))
    assert_same(batches, take(data | {'num_threads': 1, 'prefetch': 1, 'cache_mb': 1}, 5))
    assert np.any(batches[0]['frames'] != take(data, 1, seed=1)[0]['frames'])
    assert np.any(batches[0]['frames'] != batches[1]['frames'])


def test_batches_are_the_same_with_worker_processes(data):
    data = data | WILD
    batches = take(data, 5)
    assert_same(batches, take(data | {'num_workers': 2}, 5))
    assert_same(batches[2:], take(data | {'num_workers': 1}, 3, start_step=2))


def test_batches_of_all_processes_join_to_the_batch_of_one(data):
    data = data | WILD
    whole = take(data, 4)
    parts = [take(data, 4, process_index=index, process_count=2) for index in range(2)]
    for step, batch in enumerate(whole):
        for name in batch:
            joined = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(joined, batch[name])


def test_batches_for_the_device_hold_files_as_they_are(write_set, moving_squares):
    sizes = {'a': (48, 64), 'b': (56, 40)}
    root = write_set({name: moving_squares(2, 2, size) for name, size in sizes.items()})
    settings = _settings_of(root, batch_size=4, clip_length=3, gap=((0, 5),), warp='device')
    batches = take(settings, 3)
    for batch in batches:  # each clip has a frame twice
        clips = batch['pixels'].view(np.uint8).reshape(4, 3, 56, 64, 4)
        assert {*map(tuple, batch['sizes'].tolist())} <= {*sizes.values()}
        for clip, (height, width) in zip(clips, batch['sizes']):
            assert not clip[:, height:].any()
            assert not clip[:, :, width:].any()
            ids = clip[..., 3]
            assert (ids.reshape(3, -1).max(axis=1) == 2).all()
            np.testing.assert_array_equal(clip[..., :3], np.stack([ids * 60] * 3, axis=-1))
    assert_same(batches, take(settings | {'cache_mb': 1}, 3))
    parts = [take(settings, 3, process_index=index, process_count=2) for index in (0, 1)]
    assert_same([{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts)], batches)


def test_a_batch_must_divide_by_the_processes(data):
    with pytest.raises(
        InputError, match=r"'data\.batch_size' is 4; .* multiple of the 3 processes"
    ):
        pipeline.make_batches(read_data(data), seed=0, process_count=3)


def test_each_epoch_shows_every_video_once(write_set, moving_squares):
    root = write_set({name: moving_squares(1, 2) for name in 'abcdefg'})
    settings = read_data(_settings_of(root))
    sources = Sources(settings.sources, seed=0)
    found = [sources.locate(index) for index in range(70)]
    for epoch in range(10):
        videos = [video for _, number, video in found if number == epoch]
        assert sorted(videos) == list(range(7))
    orders = {tuple(video for _, number, video in found if number == e) for e in range(10)}
    assert len(orders) > 5  # shuffled anew


def _settings_of(root, **changes):
    return {'sources': [{'root': str(root)}], 'batch_size': 1, 'crop': (32, 40)} | changes


def test_sources_are_mixed_by_weight_and_each_keeps_its_epochs(tmp_path, write_set, moving_squares):
    groups = {}
    for name, num_videos, weight in (('a', 3, 0.5), ('b', 2, 0.2), ('c', 1, 0.3)):
        videos = {f'{name}{i}': moving_squares(1, 2) for i in range(num_videos)}
        root = write_set(videos, root=tmp_path / name)
        groups[name] = {'root': str(root), 'weight': weight}
    settings = read_data({'sources': groups, 'batch_size': 1, 'crop': (32, 40)})
    sources = Sources(settings.sources, seed=3)
    assert sources.names == ('a', 'b', 'c')
    found = [sources.locate(index) for index in range(2500)]
    counts = np.bincount([source for source, _, _ in found])
    np.testing.assert_array_equal(counts, [1250, 500, 750])
    for source, num_videos in enumerate((3, 2, 1)):
        epochs = [epoch for place, epoch, _ in found if place == source]
        np.testing.assert_array_equal(epochs, np.arange(counts[source]) // num_videos)


def test_weights_of_sources_may_change_with_the_step(tmp_path, write_set, moving_squares):
    groups = {}
    for name, weight in (('a', ((0, 1.0), (30, 0.0))), ('b', ((0, 0.0), (30, 0.5), (60, 2.0)))):
        root = write_set({f'{name}{i}': moving_squares(1, 2) for i in range(3)}, tmp_path / name)
        groups[name] = {'root': str(root), 'weight': weight}
    groups['c'] = {**groups['b'], 'weight': 0.5}
    settings = read_data({'sources': groups, 'batch_size': 4, 'crop': (32, 40)})
    sources = Sources(settings.sources, seed=3, batch_size=4)
    found = [sources.locate(index) for index in range(90 * 4)]
    parts = [found[:120], found[120:240], found[240:]]
    counts = [np.bincount([source for source, _, _ in part], minlength=3) for part in parts]
    np.testing.assert_array_equal(counts, [[80, 0, 40], [0, 60, 60], [0, 96, 24]])
    for source in range(3):  # epochs go on where the weights change
        epochs = [epoch for place, epoch, _ in found if place == source]
        np.testing.assert_array_equal(epochs, np.arange(len(epochs)) // 3)
    rng = np.random.default_rng(0)
    assert {sources.draw(rng, 119)[0] for _ in range(50)} == {0, 2}
    assert {sources.draw(rng, 120)[0] for _ in range(50)} == {1, 2}


@pytest.mark.parametrize(
    ('weight', 'message'),
    [
        (((5, 1.0),), "'data.sources.a.weight' is .*; needed: .* with steps that rise from 0"),
        (((0, 1.0), (7, 1.0), (3, 1.0)), "'data.sources.a.weight' is .*; needed: .* that rise"),
        ((0, 1.0), "'data.sources.a.weight' is .*; needed: a finite number of at least 0, or "),
        (((0, 1.0), (9, 0.0)), "'data.sources' is .*; needed: weights of which one is above 0"),
    ],
)
def test_weights_that_make_no_mix_are_refused(weight, message):
    groups = {'a': {'root': 'x', 'weight': weight}, 'b': {'root': 'y', 'weight': 0.0}}
    with pytest.raises(InputError, match=message):
        read_data({'sources': groups, 'batch_size': 4, 'crop': (32, 40)})


def test_the_gap_grows_with_the_step(write_set):
    # The whole frame is painted with its own number, so the labels tell which frames were taken.
    masks = np.stack([np.full((32, 40), t + 1, np.uint8) for t in range(60)])
    root = write_set({'a': masks}, paint=lambda labels: labels)
    wanted = {'gap': ((0, 1), (5, 4)), 'reverse': 0.0, 'scale': (1.0, 1.0), 'batch_size': 2}
    batches = take(_settings_of(root, clip_length=2, **wanted), 60)
    gaps = [
        int(clip[1, 0, 0, 0]) - int(clip[0, 0, 0, 0])
        for batch in batches
        for clip in batch['frames']
    ]
    assert set(gaps[:10]) == {1}
    assert set(gaps[10:]) == {1, 2, 3, 4}
    sparse = _settings_of(root, clip_length=2, **wanted)
    sparse['sources'][0]['stride'] = 2
    gaps = [int(np.ptp(batch['frames'][0, :, 0, 0, 0])) for batch in take(sparse, 40, start_step=5)]
    assert set(gaps) == {1, 2}


def test_the_schedule_of_gaps():
    schedule = ((0, 1), (100, 2), (300, 5))
    assert [value_at(schedule, step) for step in (0, 99, 100, 299, 300, 10**6)] == [
        1,
        1,
        2,
        2,
        5,
        5,
    ]


def test_reversal_and_flip_happen_as_often_as_asked(write_set):
    masks = np.stack([np.full((32, 40), t + 1, np.uint8) for t in range(60)])
    root = write_set({'a': masks}, paint=lambda labels: labels)
    for reverse in (0.0, 1.0):
        batches = take(_settings_of(root, clip_length=2, reverse=reverse), 10)
        steps = {int(b['frames'][0, 1, 0, 0, 0]) - int(b['frames'][0, 0, 0, 0, 0]) for b in batches}
        assert steps == {-1 if reverse else 1}


def test_pasting_adds_objects_with_slots_of_their_own(write_set, moving_squares):
    root = write_set({'one': moving_squares(1, 9)})
    alone = take(_settings_of(root, num_slots=2, crop=(48, 64)), 30)
    assert {int(batch['objects'].sum()) for batch in alone} == {1}
    pasted = take(
        _settings_of(root, num_slots=2, crop=(48, 64), paste={'probability': 1.0, 'scale': (1, 1)}),
        30,
    )
    numbers = [int(batch['objects'].sum()) for batch in pasted]
    assert np.mean(numbers) > 1.5  # not always: one may hide the other, or hang over the border


def test_pasted_objects_have_no_mirror_image(write_set, moving_squares):
    root = write_set({'one': moving_squares(1, 3)})
    wanted = {'crop': (48, 64), 'clip_length': 1, 'flip': 0.0, 'scale': (1, 1), 'min_pixels': 30}
    wanted |= {'paste': {'probability': 1.0, 'scale': (1, 1), 'behind': 0.0}}
    for batch in take(_settings_of(root, **wanted), 60):
        for slot in range(1, 4):
            num_parts, _ = cv2.connectedComponents((batch['labels'][0, 0] == slot).astype(np.uint8))
            assert num_parts <= 2  # the first is the rest of the image


def test_still_images_move_by_their_own_jitter(tmp_path, write_set, moving_squares):
    root = write_set({'one': moving_squares(1, 1)}, root=tmp_path / 'set')
    (root / 'JPEGImages/480p/one').rename(root / 'images')
    (root / 'Annotations/480p/one').rename(root / 'masks')
    source = {'root': str(root), 'kind': 'still_images'}
    for jitter, moves in (({'rotation': 10.0, 'shift': 0.05}, True), (None, False)):
        settings = _settings_of(root) | {'sources': [source | {'jitter': jitter}]}
        for batch in take(settings | {'colour': {'brightness': 0.1}}, 5):
            frames = batch['frames'][0]
            assert np.any(frames[1:] != frames[:1]) == moves


@pytest.fixture
def still(tmp_path, moving_squares):
    """Source of one photograph, painted 60 times the id of each pixel."""
    (labels,) = moving_squares(2, 1)
    (tmp_path / 'images').mkdir()
    Image.fromarray(np.stack([labels * 60] * 3, axis=-1)).save(tmp_path / 'images/one.png')
    write_labels(tmp_path / 'masks/one.png', labels)
    return {'root': str(tmp_path), 'kind': 'still_images'}


def test_simulated_clips_move_and_stay_aligned(still):
    jitter = {'rotation': 20.0, 'scale': 0.1, 'shear': 10.0, 'shift': 0.05}
    settings = _settings_of('') | {'sources': [still | {'jitter': jitter}], 'clip_length': 3}
    for batch in take(settings | {'crop': (48, 64)}, 20):
        frames, labels = batch['frames'][0], batch['labels'][0]
        assert all(np.any(labels[t] != labels[t - 1]) for t in (1, 2))
        for slot in np.unique(labels[0]):
            inside = np.array([_shrink(mask == slot) for mask in labels])
            assert np.unique(frames[inside]).tolist() in ([], [0], [60], [120])


def test_each_frame_gets_colours_of_its_own(still):
    for name, is_same in (('colour', True), ('frame_colour', False)):
        settings = _settings_of('') | {'sources': [still | {name: {'brightness': 0.3}}]}
        for batch in take(settings, 5):
            frames = batch['frames'][0].astype(int)
            assert np.all(frames == frames[0]) == is_same


def test_a_small_object_is_found_by_aiming_at_it(write_set):
    masks = np.zeros((4, 200, 300), np.uint8)
    masks[:, 90:100, 150:160] = 1  # a random crop of 40x32 shows it in one of 40 draws
    root = write_set({'a': masks})
    batches = take(_settings_of(root, scale_of='source', scale=(1, 1), clip_length=2), 20)
    assert all((batch['labels'][:, 0] > 0).sum() >= 64 for batch in batches)


@pytest.mark.parametrize('shown', [(30, 34), (36, 40), (0, 2)])
def test_a_video_whose_object_is_mostly_hidden_gives_clips(write_set, shown):
    masks = np.zeros((40, 48, 64), np.uint8)
    masks[shown[0] : shown[1], 10:30, 20:40] = 1
    root = write_set({'a': masks})
    batches = take(_settings_of(root, clip_length=3), 60)
    assert all((batch['labels'][:, 0] > 0).sum() >= 64 for batch in batches)


def test_frames_with_too_small_an_object_do_not_end_a_run(write_set):
    masks = np.zeros((40, 48, 64), np.uint8)
    masks[:, 10:12, 20:22] = 1
    masks[7:9, 10:30, 20:40] = 1
    batches = take(_settings_of(write_set({'a': masks}), clip_length=3), 60)
    assert all((batch['labels'][:, 0] > 0).sum() >= 64 for batch in batches)


def test_balanced_crops_show_more_foreground(write_set):
    masks = np.zeros((4, 96, 128), np.uint8)
    masks[:, 40:60, 50:70] = 1
    root = write_set({'a': masks})
    shown = {}
    for pixels in (0, 300):
        wanted = {'scale_of': 'source', 'scale': (1, 1), 'clip_length': 2, 'min_pixels': 1}
        wanted |= {'balanced_pixels': pixels, 'balanced_tries': 9}
        batches = take(_settings_of(root, **wanted), 60)
        shown[pixels] = np.mean([(batch['labels'][0, 0] > 0).sum() >= 300 for batch in batches])
    assert shown[300] > 0.9 > 0.7 > shown[0]


def test_objects_without_slot_are_reported_once(data, caplog):
    take(data | {'num_slots': 1, 'crop': (48, 64)}, 12)
    said = [record for record in caplog.records if 'the most visible are kept' in record.message]
    assert len(said) == 1
    assert 'three shows 3 objects, data.num_slots is 1' in said[0].message


def test_void_stays_void(write_set, moving_squares):
    masks = moving_squares(1, 5)
    masks[:, :, 40:] = 255
    root = write_set({'a': masks}, paint=lambda labels: labels)
    for batch in take(_settings_of(root, clip_length=2, crop=(48, 64), rotation=10.0), 10):
        assert 255 in batch['labels']
        assert np.median(batch['frames'][batch['labels'] == 255]) == 255


def test_a_missing_mask_is_found_before_the_first_batch(data):
    (Path(data['sources'][0]['root']) / 'Annotations/480p/three/00004.png').unlink()
    with pytest.raises(InputError, match=r'three/00004\.png: this mask is missing'):
        pipeline.make_batches(read_data(data), seed=0)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_broken_frame_is_named(write_set, moving_squares, num_workers):
    root = write_set({'a': moving_squares(1, 3)})
    (root / 'JPEGImages/480p/a/00001.png').write_bytes(b'')
    with pytest.raises(InputError, match=r'a/00001\.png: unreadable frame'):
        take(_settings_of(root, num_workers=num_workers), 1)


def test_a_mask_of_another_size_is_named(write_set, moving_squares, draw):
    root = write_set({'a': moving_squares(1, 4)})
    write_labels(root / 'Annotations/480p/a/00001.png', draw('.1'))
    with pytest.raises(InputError, match=r'a/00001\.png: mask of size 2x1, its frame is 64x48'):
        take(_settings_of(root), 1)


def test_a_video_without_objects_is_named(write_set):
    root = write_set({'a': np.zeros((4, 48, 64), np.uint8)})
    with pytest.raises(InputError, match=r'480p/a: no object of 64 pixels in 10 clips of a'):
        take(_settings_of(root), 1)


def test_broken_videos_are_skipped_on_request_and_counted(write_set, moving_squares, caplog):
    root = write_set({name: moving_squares(1, 4) for name in 'abc'})
    (root / 'JPEGImages/480p/b/00001.png').write_bytes(b'')
    batches = take(_settings_of(root, skip_broken=True), 20)
    assert all(batch['objects'].any() for batch in batches)
    said = [record.message for record in caplog.records if 'skipped a video' in record.message]
    assert len(said) == 1
    assert 'skipped a video, 1 so far: ' in said[0]
    assert 'b/00001.png' in said[0]


def test_videos_whose_files_do_not_fit_are_left_out_on_request(write_set, moving_squares, caplog):
    root = write_set({name: moving_squares(1, 4) for name in 'abcd'})
    for path in (root / 'JPEGImages/480p/a').iterdir():
        path.unlink()  # an empty video
    (root / 'Annotations/480p/c/00000.png').write_bytes(b'')
    (root / 'Annotations/480p/d/00002.png').unlink()
    with pytest.raises(InputError, match=r'480p/a: no \.jpg'):
        take(_settings_of(root), 1)
    batches = take(_settings_of(root, skip_broken=True), 3)
    assert all(batch['objects'].any() for batch in batches)
    (said,) = [record.message for record in caplog.records if 'skipped' in record.message]
    assert 'skipped 3 of 4 videos: ' in said
    (root / 'JPEGImages/480p/b/00003.png').unlink()
    with pytest.raises(InputError, match='all 4 videos are broken; the first: '):
        take(_settings_of(root, skip_broken=True), 1)


def test_any_number_of_processes_reads_each_element_of_an_epoch_once(write_set):
    # Each video is painted with its own number; labels tell which was read.
    videos = {f'{n:02d}': np.full((2, 32, 40), n + 1, np.uint8) for n in range(12)}
    settings = _settings_of(write_set(videos, paint=lambda labels: labels), batch_size=4)
    settings = read_data(settings | {'clip_length': 1, 'num_slots': 1})
    for epoch in range(3):
        seen = []
        for step in range(3 * epoch, 3 * epoch + 3):
            count = (1, 2, 4)[step % 3]  # a run that goes on with other numbers of processes
            for index in range(count):
                batch = pipeline.BatchMaker(settings, 5, index, count)(step)
                seen += np.median(batch['frames'], axis=(1, 2, 3, 4)).astype(int).tolist()
        assert sorted(seen) == list(range(1, 13))


def test_a_set_of_broken_videos_ends(write_set):
    root = write_set({'a': np.zeros((4, 48, 64), np.uint8)})
    with pytest.raises(InputError, match='10 videos in a row are broken'):
        take(_settings_of(root, skip_broken=True), 1)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'clip_lenght': 3}, r"'data\.clip_lenght' is not a setting; nearest: 'data\.clip_length'"),
        ({'paste': {'prob': 1}}, r"'data\.paste\.prob' is not .* 'data\.paste\.probability'"),
        ({'sources': [{'rot': 'x'}]}, r"'data\.sources\[0\]\.rot' .* 'data\.sources\[0\]\.root'"),
        ({'sources': []}, r"'data\.sources' is {}"),
        ({'sources': [{'root': 'x', 'weight': 0}]}, r"'data\.sources' .*one is above 0"),
        ({'gap': ((5, 1),)}, r"'data\.gap' .* rise from 0"),
        ({'gap': ((0, 0),)}, r"'data\.gap' .* a whole number from 1 "),
        ({'scale_of': 'both'}, r"'data\.scale_of' is 'both'; one of 'cover', 'source'"),
        ({'batch_size': 0}, r"'data\.batch_size' is 0; needed: a whole number from 1 "),
        (
            {'warp': 'device', 'paste': {'probability': 0.5}},
            r"'data\.paste\.probability' is 0\.5; needed: 0, since data\.warp is 'device'",
        ),
        (
            {'warp': 'device', 'sources': {'a': {'root': 'x', 'frame_colour': {'grey': 0.1}}}},
            r"'data\.sources\.a\.frame_colour\.grey' is 0\.1; needed: 0, since data\.warp is",
        ),
    ],
)
def test_wrong_settings_are_named(data, changes, message):
    with pytest.raises(InputError, match=message):
        read_data(data | changes)


def test_a_setting_without_default_is_asked_for(data):
    del data['crop']
    with pytest.raises(InputError, match=r"'data\.crop' is not set"):
        read_data(data)


def test_settings_may_come_from_a_config(data):
    config_dict = pytest.importorskip('ml_collections')
    config = config_dict.ConfigDict(data | {'sources': {'x': dict(data['sources'][0])}} | WILD)
    assert_same(take(config, 2), take(data | WILD, 2))


def test_an_unknown_kind_of_source_is_named(data):
    data['sources'][0]['kind'] = 'lvos'
    with pytest.raises(InputError, match=r"kind' is 'lvos'; one of 'davis', .* 'prepared'"):
        pipeline.make_batches(read_data(data), seed=0)


PROGRAM = """
import itertools, os, signal, sys
from absl import app
from vos_jax.config.read import read
from vos_jax.config.schema import DataSpec
from vos_jax.data import pipeline

def main(argv):
    data = {'sources': [{'root': argv[1]}], 'batch_size': 4, 'crop': (384, 384), 'num_workers': 2}
    batches = pipeline.make_batches(read(DataSpec, data, 'data'), seed=0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    sys.held = list(itertools.islice(batches, 3))  # to the end of the program
    os.killpg(0, signal.SIGINT)  # as Ctrl-C, which workers hear as well
    os.killpg(0, signal.SIGTERM)
    sys.held += itertools.islice(batches, 9)
    print(len(sys.held))

if __name__ == '__main__':
    app.run(main)
"""


def test_processes_end_quietly_with_the_program_and_leak_no_memory(
    write_set, moving_squares, tmp_path
):
    root = write_set({'a': moving_squares(1, 4)})
    program = tmp_path / 'program.py'  # a file, which the processes of the workers import
    program.write_text(PROGRAM)
    repository = str(Path(__file__).resolve().parents[2])
    result = subprocess.run(
        [sys.executable, str(program), str(root)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, 'PYTHONPATH': repository},
        start_new_session=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, '12\n', '')
