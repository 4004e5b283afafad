"""Several scales and mirrored frames as one model, through the segmenter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny, tiny_cfbi
from tests.models.toy import Toy, ToySpec
from vos_jax.config.schema import InferenceSpec, MemorySpec
from vos_jax.inference import views
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import protocol

MODEL = Toy(ToySpec())  # which does not see a mirrored frame as the frame
VIDEO = tiny.clip(length=3, size=tiny_cfbi.SIZE)['frames'][0]
MASKS = np.zeros(tiny_cfbi.SIZE, np.uint8)
MASKS[3:18, 4:20], MASKS[10:26, 27:44] = 1, 2


def build(model=MODEL, **settings):
    return views.build(model, InferenceSpec(**settings))


def play(model, frames=VIDEO, masks=MASKS, variables=None):
    """Probabilities of the frames after the first."""
    settings = MemorySpec('given+previous', size=3, capacity=3)
    variables = variables or tiny.variables_of(MODEL)
    segmenter = Segmenter(model, variables, memory=settings)
    segmenter.start(frames[0], masks)
    return np.stack([segmenter.step(frame, probabilities=True)[1] for frame in frames[1:]])


@functools.cache
def seen_once():
    return play(MODEL)


@functools.cache
def seen_mirrored_too():
    return play(build(flip=True))


def test_one_view_is_the_model_itself():
    assert build() is MODEL


def test_a_mirrored_video_gives_mirrored_masks():
    model = build(flip=True)
    mirrored = play(model, VIDEO[:, :, ::-1], MASKS[:, ::-1])[..., ::-1]
    # Float32 sums in another order, through two frames.
    np.testing.assert_allclose(mirrored, seen_mirrored_too(), atol=1e-4)
    assert np.abs(seen_mirrored_too() - seen_once()).max() > 1e-3


def test_probabilities_of_views_are_averaged():
    # The first frame predicted: later ones follow the merged result.
    mirrored = play(MODEL, VIDEO[:, :, ::-1], MASKS[:, ::-1])[..., ::-1]
    found = np.mean([seen_once()[0], mirrored[0]], axis=0)
    # Float32 sums in another order.
    np.testing.assert_allclose(found, seen_mirrored_too()[0], atol=1e-4)


@pytest.mark.long
def test_probabilities_of_scales_are_averaged():
    size = (29, 47)  # seen as 33 x 49 too, and at scale 1.3 as 33 x 65
    frames, masks = VIDEO[:2, : size[0], : size[1]], MASKS[: size[0], : size[1]]
    cfbi = tiny_cfbi.build()
    variables = tiny.fill(tiny_cfbi.shapes_of(cfbi))
    *parts, both = [
        play(build(cfbi, scales=scales, max_edge=800), frames, masks, variables)
        for scales in ((1,), (1.3,), (1.0, 1.3))
    ]
    np.testing.assert_allclose(both, np.mean(parts, axis=0), atol=1e-5)
    assert np.abs(parts[0] - parts[1]).max() > 1e-3


def test_several_scales_start_from_the_released_longest_edge():
    several = build(tiny_cfbi.build(), scales=(1.0, 1.5))
    assert [(m.spec.scale, m.spec.max_edge) for m in several.models] == [(1.0, 800), (1.5, 800)]
    chosen = build(tiny_cfbi.build(), max_edge=160)
    assert (chosen.spec.scale, chosen.spec.max_edge) == (1.0, 160)


def test_small_frames_are_seen_enlarged():
    model = tiny.giel()
    weights = tiny.variables_of(model)
    seen = views.build(model, InferenceSpec(enlarge_to=38))  # 19 x 27, twice as large
    segmenter = Segmenter(seen, weights, memory=MemorySpec('first', size=2, capacity=3))
    labels = np.zeros(tiny.SIZE, np.uint8)
    labels[4:12, 5:15] = 1
    segmenter.start(tiny.FRAMES[0], labels)
    _, found = segmenter.step(tiny.FRAMES[1], probabilities=True)

    @jax.jit
    def seen_large(weights):
        large = jax.image.resize(jnp.float32(tiny.FRAMES[:2]), (2, 38, 54, 3), 'cubic')
        mask = jax.image.resize(jnp.float32(labels == 1)[None, None], (1, 1, 38, 54), 'linear')
        used, first, second = jnp.ones((1, 1), bool), jnp.zeros(1, int), jnp.ones(1, int)
        given = protocol.Masks(mask, mask[:, 0], jnp.ones(1, bool))
        apply, large = functools.partial(model.apply, weights), large.clip(0, 255)
        memory = apply(large[:1], None, given, used, first, method='memorise')
        features = apply(large[1:], method='encode')
        logits = apply(features, memory, used, second, method='segment').logits
        small = jax.image.resize(logits, (1, 2, *tiny.SIZE), 'linear', antialias=False)
        return jax.nn.softmax(small, axis=1)

    np.testing.assert_allclose(found, seen_large(weights)[0], atol=1e-5)


def test_large_enough_frames_are_seen_as_they_are():
    model = views.build(tiny.giel(), InferenceSpec(enlarge_to=19))
    assert model.network_size(tiny.SIZE) == tiny.SIZE
    assert model.network_size((19, 300)) == (19, 300)
    edged = views.build(tiny.giel(), InferenceSpec(enlarge_to=38, max_edge=40))
    assert edged.network_size(tiny.SIZE) == (28, 40)


def test_any_model_is_seen_at_several_scales_and_mirrored():
    model = tiny.giel()  # which memorises no features
    seen = views.build(model, InferenceSpec(scales=(1.0, 1.5), flip=True))
    segmenter = Segmenter(seen, tiny.variables_of(model))
    segmenter.start(tiny.FRAMES[0], np.uint8(np.arange(27) < 9)[None].repeat(19, 0))
    _, found = segmenter.step(tiny.FRAMES[1], probabilities=True)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, atol=1e-5)


def test_objects_may_be_added_beyond_the_slots_at_hand():
    settings = MemorySpec('given+previous', size=3, capacity=3)
    segmenter = Segmenter(build(flip=True), tiny.variables_of(MODEL), memory=settings)
    segmenter.start(VIDEO[0], (MASKS == 1).astype(np.uint8))  # one slot
    segmenter.step(VIDEO[1])
    merged = segmenter.add_objects(np.where(MASKS == 2, 9, 0).astype(np.uint8))
    assert set(np.unique(merged)) <= {0, 1, 9}
    _, probabilities = segmenter.step(VIDEO[2], probabilities=True)
    assert segmenter.ids == (1, 9)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, atol=1e-5)
