import jax
import numpy as np

from benchmarks import inputs
from tests.models.tiny import giel


def test_made_up_variables_have_the_shapes_of_the_model():
    model = giel()
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    masks = np.zeros((1, 2, 32, 32), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), frames, masks, np.ones((1, 2), bool))
    made = inputs.variables_of(model, 2)
    same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, made, shapes)
    assert all(jax.tree.leaves(same))


def test_each_object_of_the_video_has_a_rectangle():
    frames, masks = inputs.make_video((48, 64), 3, 6)
    assert frames.shape == (3, 48, 64, 3)
    assert sorted(np.unique(masks)) == [0, 1, 2, 3, 4, 5, 6]
    assert len({np.count_nonzero(masks == number) for number in range(1, 7)}) == 1


def test_frames_differ_from_each_other():
    frames, _ = inputs.make_video((48, 64), 3, 1)
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


def test_clips_of_a_batch_differ_from_each_other():
    batch = inputs.make_batch(2, 3, (48, 64), 2)
    assert batch['labels'].shape == (2, 3, 48, 64)
    assert (batch['frames'][0] != batch['frames'][1]).any()
