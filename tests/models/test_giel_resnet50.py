"""The configuration of the paper: its size, its settings, and that it runs."""

import jax
import numpy as np
import pytest

from tests.models.tiny import clip, variables_of
from vos_jax import recipe
from vos_jax.config import plain
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import registry
from vos_jax.training import step as steps
from vos_jax.training.optimizer import make_optimizer


def load(variant, *overrides):
    return recipe.load(f'configs/giel_resnet50.py:{variant}', overrides)


def conv(inputs, outputs, size, bias=1):
    return size * size * inputs * outputs + bias * outputs


def encoder(inputs):
    """ResNet-50 up to res4; its norms are constants."""
    total, channels = conv(inputs, 64, 7, bias=0), 64
    for width, depth in ((64, 3), (128, 4), (256, 6)):
        for index in range(depth):
            total += conv(channels, width, 1, 0) + conv(width, width, 3, 0)
            total += conv(width, 4 * width, 1, 0)
            total += conv(channels, 4 * width, 1, 0) if index == 0 else 0
            channels = 4 * width
    return total


def decoder(width=256):
    block = 2 * conv(width, width, 3)
    skips = conv(512, width, 3) + conv(256, width, 3) + 2 * block
    return conv(2 * 512, width, 3) + block + skips + 2 * block + conv(width, 1, 3)


HEAD = {'full': decoder(), 'fast': conv(2 * 512, 256, 1) + conv(256, 1, 1)}


@pytest.mark.parametrize('variant', HEAD)
def test_the_number_of_parameters_is_that_of_the_architecture(variant):
    keys_and_values = conv(1024, 128, 1) + conv(1024, 512, 1)
    attention = 3 * conv(128, 128, 1) + conv(384, 128, 1) + conv(128, 128, 1) + conv(128, 1, 1)
    batch_norms = 2 * 64 + 2 * 512
    labels = conv(3, 64, 3, 0) + conv(64, 512, 3, 0) + batch_norms
    total = encoder(3) + encoder(4) + keys_and_values + attention + decoder() + labels
    total += HEAD[variant]
    model = registry.build(load(variant).model)
    frame = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
    masks = jax.ShapeDtypeStruct((1, 6, 64, 64), np.float32)
    objects = jax.ShapeDtypeStruct((1, 6), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), frame, masks, objects)['params']
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == total
    assert round(total / 1e6, 1) == {'full': 38.2, 'fast': 28.4}[variant]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype(np.float32)}


@pytest.mark.parametrize('variant', ['full', 'fast', 'tiny'])
def test_all_settings_are_understood(variant):
    cfg = load(variant)
    model = registry.build(cfg.model)
    assert model.stride == 16
    assert model.spec.variant == ('fast' if variant == 'fast' else 'full')
    assert cfg.data.crop[1] % 16  # the model pads
    assert cfg.inference.memory.size == 5
    optimizer, rate = make_optimizer(cfg.optimizer, cfg.training.steps)
    steps.make_train_step(model, optimizer, cfg)
    np.testing.assert_allclose(rate(0), 1e-5, rtol=1e-6)
    np.testing.assert_allclose(rate(cfg.training.steps // 2), 0.5e-5, rtol=1e-6)


def test_it_has_every_setting_of_the_small_configuration():
    def names(cfg):
        return {name for name in plain.flatten(cfg) if '.sources.' not in name}

    small = recipe.load('configs/giel_small.py')
    assert names(small) <= names(load('full'))


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant 'huge' is not one of full, fast, tiny"):
        load('huge')


def trained_and_segmented(cfg, size, length, jit=jax.jit):
    """One train step and one segmented frame with two objects: state, metrics, probabilities."""
    model = registry.build(cfg.model)
    batch = clip(length=length, size=size, num_slots=2)
    variables = variables_of(model)
    optimizer, _ = make_optimizer(cfg.optimizer, cfg.training.steps)
    opt_state = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(optimizer.init, variables['params']),
    )
    state = steps.TrainState(
        np.int32(0), variables['params'], variables['batch_stats'], {}, opt_state
    )
    train_step = jit(steps.make_train_step(model, optimizer, cfg), donate_argnums=0)
    state, metrics = train_step(state, batch)
    segmenter = Segmenter.from_config(cfg, state.variables())
    segmenter.start(batch['frames'][0, 0], batch['labels'][0, 0])
    _, probabilities = segmenter.step(batch['frames'][0, 1], probabilities=True)
    return variables['params'], state, metrics, probabilities


def check(size, start, state, metrics, probabilities):
    assert all(np.isfinite(value) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, start)
    # Frozen: the first frame of Adam moves every weight that has a gradient by about 1e-5.
    assert np.mean(jax.tree.leaves(moved)) > 0.9
    assert probabilities.shape == (3, *size)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, atol=1e-5)


@pytest.mark.long
def test_the_tiny_variant_trains_and_segments():
    cfg = load('tiny')
    check((64, 100), *trained_and_segmented(cfg, (64, 100), 3, jax.jit))


@pytest.mark.long
def test_the_full_model_trains_and_segments_480p_with_two_objects():
    cfg = load('full', 'model.dtype=float32', 'training.unrolled=True')
    check((480, 854), *trained_and_segmented(cfg, (480, 854), cfg.data.clip_length))
