"""Clips that are warped in the train step: those of the host, in the same order, on any mesh."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.conftest import devices_flag
from tests.models.toy import ToySpec
from vos_jax.config.schema import (
    Config,
    DataSpec,
    Jitter,
    LossSpec,
    MeshSpec,
    OptimizerSpec,
    Source,
    TrainingSpec,
)
from vos_jax.data import scenes
from vos_jax.data.pipeline import BatchMaker
from vos_jax.planning import hlo
from vos_jax.training import step as steps
from vos_jax.training.program import Program
from vos_jax.training.sharding import Constraints

STEPS = 6


def config_of(root, warp, **changes):
    """Two sets of other sizes; crops that reach over the border."""
    sources = Source(f'{root}/large'), Source(f'{root}/small', jitter=Jitter(rotation=10.0))
    data = DataSpec(
        sources=sources,
        batch_size=4,
        crop=(33, 48),
        clip_length=3,
        num_slots=3,
        scale=(0.7, 1.4),
        rotation=20.0,
        warp=warp,
        **changes,
    )
    return Config(
        model=ToySpec(dtype='float32'),
        data=data,
        loss=LossSpec(bce=0.0),
        optimizer=OptimizerSpec('sgd', learning_rate=0.1),
        training=TrainingSpec(steps=STEPS),
    )


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('sets')
    for name, size in (('large', (72, 96)), ('small', (80, 64))):
        scenes.write_dataset(root / name, num_train=2, num_val=1, frames=3, size=size, seed=0)
    return root


def train(program, state=None, start=0):
    """The states after each step, and the losses."""
    state = program.init() if state is None else jax.device_put(state, program.in_state)
    states, losses = [], []
    with contextlib.closing(program.batches(start)) as batches:
        for _ in range(start, STEPS):
            state, metrics = program.step(state, next(batches))
            states.append(jax.device_get(state))
            losses.append(float(metrics['loss']))
    return states, losses


@pytest.fixture(scope='module')
def trained(root):
    program = Program(config_of(root, 'device'), jax.devices()[:1])
    return program, *train(program)


def test_the_device_warps_the_clips_of_the_host(root):
    host, device = (
        BatchMaker(config_of(root, warp, slot_window=2).data, seed=3) for warp in ('host', 'device')
    )
    warped = jax.jit(lambda batch: steps.warped(batch, (33, 48), Constraints()))
    differing = []
    for step in range(8):
        wanted, given = host(step), device(step)
        assert given['pixels'].shape == (4, 3, 80, 96)
        assert {tuple(size) for size in given['sizes'].tolist()} == {(72, 96), (80, 64)}
        found = warped(given)
        np.testing.assert_array_equal(found['objects'], wanted['objects'])
        difference = np.abs(np.asarray(found['frames'], int) - wanted['frames'])
        assert difference.max() <= 4  # OpenCV 4 has coordinates of 1/32 pixel
        assert difference.mean() < 0.3
        differing.append(np.mean(found['labels'] != wanted['labels']))
    assert np.mean(differing) < 1e-3


def test_training_is_that_of_the_host(root, trained):
    _, losses = train(Program(config_of(root, 'host'), jax.devices()[:1]))
    np.testing.assert_allclose(trained[2], losses, rtol=1e-3)


def test_a_resumed_run_goes_on_with_the_same_bits(trained):
    program, states, losses = trained
    again, again_losses = train(program, states[2], start=3)
    assert again_losses == losses[3:]
    jax.tree.map(np.testing.assert_array_equal, again[-1], states[-1])


def report(root):
    """Prints losses on two by two devices, and the collectives of the warp alone."""
    mesh = MeshSpec(data=2, spatial=2)
    program = Program(dataclasses.replace(config_of(root, 'device'), mesh=mesh))
    constraints, given = Constraints(program.mesh), next(program.batches(0))
    warped = jax.jit(lambda batch: steps.warped(batch, (32, 48), constraints))
    text = warped.lower(given).compile().as_text()
    print(json.dumps([train(program)[1], hlo.collectives(text)]))


@pytest.mark.slow
def test_clips_and_rows_on_several_devices_are_those_of_one(root, trained, run_python):
    code = 'import sys; from tests.training import test_device_warp as t; t.report(sys.argv[1])'
    finished = run_python(code, root, XLA_FLAGS=devices_flag(4))
    assert finished.returncode == 0, finished.stderr
    losses, collectives = json.loads(finished.stdout)
    np.testing.assert_allclose(losses, trained[2], rtol=1e-5)
    assert not collectives
