"""What goes to the device and back while a video runs: frames in, labels out."""

import jax
import numpy as np
import pytest

from tests.inference.test_segmenter import MASKS, NEW, VIDEO, segmenter
from tests.models import test_stm, tiny
from vos_jax.config.schema import MemorySpec
from vos_jax.inference import steps
from vos_jax.inference.segmenter import Segmenter


class Counting(steps.Program):
    """Notes the shapes of all that it puts on the device and fetches."""

    def __init__(self, *arguments):
        self.moved = []
        super().__init__(*arguments)

    def put(self, arrays):
        self.moved += [('in', np.shape(leaf)) for leaf in jax.tree.leaves(arrays)]
        return super().put(arrays)

    def fetch(self, arrays):
        self.moved += [('out', leaf.shape) for leaf in jax.tree.leaves(arrays)]
        return super().fetch(arrays)


def counted(video):
    """The segmenter with a program that counts."""
    program = video.program
    video.program = Counting(program.model, program.variables, program.memory)
    return video


def stm():
    model = test_stm.stm()
    memory = MemorySpec('every_n', size=4, every=2, capacity=8)
    return Segmenter(model, tiny.variables_of(model), memory=memory)


@pytest.mark.parametrize('make', [segmenter, stm])
def test_a_step_moves_a_frame_in_and_labels_out_and_nothing_else(make):
    video = counted(make())
    video.start(VIDEO[0], MASKS)
    for frame in VIDEO[1:8]:  # until the memory is full
        video.step(frame)
    video.program.moved.clear()
    # Whatever does not pass through `put` and `fetch` is an error here.
    with jax.transfer_guard('disallow'):
        for frame in VIDEO[8:11]:
            video.step(frame)
    size = VIDEO.shape[1:3]
    assert video.program.moved == [('in', (1, *size, 3)), ('out', size)] * 3


def test_the_guard_sees_what_goes_to_the_device_unasked():
    add = jax.jit(lambda x: x + 1)
    add(np.zeros(2, np.float32))
    with jax.transfer_guard('disallow'), pytest.raises(Exception, match='Disallowed'):
        add(np.zeros(2, np.float32))


def test_a_lazy_sibling_waits_for_nothing_and_gives_the_same():
    video, lazy = segmenter(), counted(segmenter()).sibling(lazy=True)
    lazy.start(VIDEO[0], MASKS)
    video.start(VIDEO[0], MASKS)
    lazy.program.moved.clear()
    results = [lazy.step(frame) for frame in VIDEO[1:5]]
    assert {way for way, _ in lazy.program.moved} == {'in'}
    for labels, frame in zip(results, VIDEO[1:5]):
        np.testing.assert_array_equal(np.asarray(labels), video.step(frame))
    np.testing.assert_array_equal(lazy.add_objects(NEW), video.add_objects(NEW))


def test_packed_variables_are_few_and_give_the_same():
    video, packed = segmenter(), segmenter()
    program = packed.program
    packed.program = steps.Program(program.model, program.variables, program.memory, packed=True)
    leaves = jax.tree.leaves(program.variables)
    arrays, places = steps.pack(leaves)
    assert len(arrays) == 1 + sum(leaf.ndim > 1 for leaf in leaves)
    for found, leaf in zip(steps.unpack(arrays, places), leaves, strict=True):
        np.testing.assert_array_equal(found, leaf)
    for one in (video, packed):
        one.start(VIDEO[0], MASKS)
    for frame in VIDEO[1:4]:
        wanted, found = (one.step(frame, probabilities=True)[1] for one in (video, packed))
        np.testing.assert_allclose(found, wanted, atol=1e-5)  # float32, in another order


def test_a_correction_while_iterating_is_heeded_by_the_next_frame():
    corrected, wanted = segmenter(), segmenter()
    found = []
    for index, labels in enumerate(corrected.segment(VIDEO[:4], MASKS)):
        if index == 1:
            labels = corrected.correct(np.roll(MASKS, 3, axis=1))
        found.append(labels)
    wanted.start(VIDEO[0], MASKS)
    wanted.step(VIDEO[1])
    wanted.correct(np.roll(MASKS, 3, axis=1))
    np.testing.assert_array_equal(found[2], wanted.step(VIDEO[2]))
    np.testing.assert_array_equal(found[3], wanted.step(VIDEO[3]))


def test_all_frames_before_a_broken_one_are_handed_out():
    found = []
    with pytest.raises(ValueError, match=r'size \(18, 27\)'):
        found.extend(segmenter().segment([*VIDEO[:3], VIDEO[3, 1:]], MASKS))
    assert len(found) == 3
