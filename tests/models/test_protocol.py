import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny, tiny_cfbi
from vos_jax.models import protocol
from vos_jax.models.stm.model import STM
from vos_jax.models.stm.spec import STMSpec

MODELS = (tiny.giel(), tiny_cfbi.build(), STM(STMSpec()))


@pytest.mark.parametrize('model', MODELS, ids=lambda model: type(model).__name__)
def test_a_model_has_the_methods_and_attributes_of_the_protocol(model):
    for name in ('encode', 'memorise', 'segment', 'widen'):
        expected = inspect.signature(getattr(protocol.Model, name)).parameters.values()
        found = inspect.signature(getattr(type(model), name)).parameters.values()
        assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in expected]
    for name in protocol.Model.__annotations__:
        assert getattr(model, name) is not None


def test_only_cfbi_sees_frames_at_other_scales():
    assert [isinstance(model, protocol.Scalable) for model in MODELS] == [False, True, False]
    assert tiny_cfbi.build().at_scale(0.5, None) == tiny_cfbi.build(scale=0.5)


def test_frames_get_imagenet_statistics():
    frames = np.array([[124, 116, 104], [255, 0, 0]], np.uint8)
    expected = (frames / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(protocol.normalise(frames), expected, atol=1e-6)
    assert protocol.normalise(frames, jnp.bfloat16).dtype == jnp.bfloat16


def test_an_entry_is_written_into_its_slot_alone():
    entry = {'keys': np.full((2, 1, 3), 7.0, np.float32), 'time': np.full((2, 1), 5, np.int32)}
    empty = protocol.empty_like(jax.eval_shape(lambda: entry), 4)
    assert empty['keys'].shape == (2, 4, 3)
    memory = jax.jit(protocol.write)(empty, entry, 2)
    np.testing.assert_array_equal(memory['time'], [[0, 0, 5, 0]] * 2)
    np.testing.assert_array_equal(memory['keys'][:, 2], entry['keys'][:, 0])
    assert memory['time'].dtype == np.int32


def test_assembled_entries_lie_in_their_order():
    entries = [{'time': np.full((2, 1), time)} for time in (3, 1, 2)]
    np.testing.assert_array_equal(protocol.assemble(entries)['time'], [[3, 1, 2]] * 2)


def test_given_masks_have_their_union_as_foreground():
    objects = np.array([[[1, 0, 0]], [[0, 0, 1]]], np.float32)[None]  # [1, 2, 1, 3]
    masks = protocol.given_masks(objects)
    assert np.asarray(masks.foreground).tolist() == [[[1, 0, 1]]]
    assert masks.given.tolist() == [True]


def prediction(foreground_logits):
    probabilities = np.array([0.5, 0.2, 0.3], np.float32).reshape(1, 3, 1, 1)
    return protocol.Prediction(probabilities, np.log(probabilities), foreground_logits)


def test_a_prediction_is_memorised_with_its_class_agnostic_map():
    masks = prediction(np.zeros((1, 1, 1), np.float32)).masks()
    assert np.ravel(masks.objects).tolist() == np.float32([0.2, 0.3]).tolist()
    assert masks.foreground.item() == 0.5
    assert masks.given.tolist() == [False]


def test_without_such_a_map_the_foreground_is_the_union():
    np.testing.assert_allclose(prediction(None).masks().foreground, [[[0.5]]])
