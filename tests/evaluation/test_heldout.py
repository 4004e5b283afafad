"""Held-out sequences are shared by processes and devices, and scored as by one."""

import concurrent.futures
import dataclasses
import itertools
import threading

import numpy as np
import pytest

from vos_jax.config.read import read
from vos_jax.config.schema import EvaluationSpec
from vos_jax.evaluation.heldout import HeldOut
from vos_jax.inference.runner import Lane


class Copying:
    """A segmenter that gives each frame the masks of the first."""

    def __init__(self):
        self.num_started = 0

    def start(self, frame, masks, *, num_objects):
        assert set(np.unique(masks)) == set(range(num_objects + 1))
        self.num_started += 1
        self._masks = masks
        return masks

    def step(self, frame):
        return self._masks


def lanes(count):
    return [Lane([Copying()]) for _ in range(count)]


def num_started(lane):
    return sum(segmenter.num_started for segmenter in lane.segmenters)


@pytest.fixture
def held_out(make_davis, draw):
    root = make_davis({'dog': draw(5, ids=(1, 2)), 'owl': draw(6), 'eel': draw(4), 'ant': draw(7)})
    source = {'root': str(root), 'split': 'val', 'name': 'val'}
    return HeldOut(read(EvaluationSpec, {'sources': [source]}, 'evaluation'))


def assert_same(found, needed):
    assert found[0] == needed[0]
    assert found[1].keys() == needed[1].keys() == {'panel_val'}
    np.testing.assert_array_equal(found[1]['panel_val'], needed[1]['panel_val'])


@pytest.mark.parametrize('count', [2, 4, 6])
def test_devices_share_the_sequences(held_out, count):
    several = lanes(count)
    assert_same(held_out(several), held_out(lanes(1)))
    assert sum(map(num_started, several)) == 4


@pytest.mark.parametrize(('count', 'started'), [(2, [2, 2]), (3, [1, 1, 2]), (5, [1, 1, 1, 1, 0])])
def test_processes_share_the_sequences(held_out, count, started):
    parts, all_there = [None] * count, threading.Barrier(count)
    own = [lanes(1) for _ in range(count)]

    def run(index):
        def gather(part):
            parts[index] = part
            all_there.wait()
            return parts

        return held_out(own[index], (index, count), gather)

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        results = list(threads.map(run, range(count)))
    needed = held_out(lanes(1))
    for found in results:
        assert_same(found, needed)
    assert [num_started(*one) for one in own] == started


@pytest.mark.parametrize(('frames', 'started'), [(0, 0), (3, 1), (9, 2)])
def test_a_signal_is_heeded_between_frames(held_out, frames, started):
    answers = itertools.chain([False] * frames, itertools.repeat(True))
    one = lanes(1)
    assert held_out(one, is_stopped=lambda: next(answers)) is None
    assert num_started(*one) == started


def test_what_is_listed_tells_names_and_frames_apart(make_davis, draw):
    def listing(folder, videos):
        source = {'root': str(make_davis(videos, folder)), 'split': 'val', 'name': 'val'}
        return HeldOut(read(EvaluationSpec, {'sources': [source]}, 'evaluation')).listing()

    first = listing('a', {'dog': draw(5), 'owl': draw(6)})
    assert first == listing('b', {'dog': draw(5), 'owl': draw(6)})
    assert first['in evaluation.sources.val'].startswith('2 videos, 11 frames, crc32 ')
    for other in (
        {'dog': draw(5)},
        {'dog': draw(6), 'owl': draw(5)},
        {'dog': draw(5), 'eel': draw(6)},
    ):
        assert first != listing('c', other)


@pytest.mark.slow
def test_sequences_of_one_size_are_scored_together_as_alone(held_out, tiny_weights):
    from vos_jax.inference import batch
    from vos_jax.inference.segmenter import Segmenter

    segmenter, counts = Segmenter.from_pretrained(tiny_weights), []
    (lane,) = batch.make_lanes([segmenter], 4)

    def step_together(segmenters, frames):
        counts.append(len(segmenters))
        return lane.step_together(segmenters, frames)

    together = held_out([dataclasses.replace(lane, step_together=step_together)])
    assert_same(together, held_out(batch.make_lanes([segmenter])))
    assert max(counts) == 4
