"""The same numbers on a GPU as on the CPU. Run them with JAX_PLATFORMS=cuda,cpu."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models.tiny import SPEC, clip, giel, variables_of
from vos_jax.config.schema import Config, LossSpec
from vos_jax.models.giel.model import GIEL
from vos_jax.ops import aggregation
from vos_jax.training import step as steps
from vos_jax.training import unroll

pytestmark = pytest.mark.gpu

MODEL = giel(encoder=dataclasses.replace(SPEC.encoder, norm='gn'), label_norm='gn')
CONFIG = Config(model=MODEL.spec, loss=LossSpec(dice=1.0, propagation=1.0))


@pytest.fixture
def gpu():
    return jax.devices('gpu')[0]


@pytest.fixture
def cpu():
    return jax.devices('cpu')[0]


def probabilities(model, device):
    """Of a short clip, segmented on a device with full float32 products."""
    batch = clip(length=4, num_slots=2, num_objects=2)
    given = np.asarray(aggregation.one_hot_masks(batch['labels'][:, 0], 2))
    arguments = (variables_of(model), batch['frames'], given, batch['objects'])

    def segment(variables, frames, given, objects):
        outputs, _ = unroll.unroll(model, variables, frames, given, objects)
        return jax.nn.softmax(outputs['logits'], axis=2)

    with jax.default_matmul_precision('highest'):
        return np.asarray(jax.jit(segment)(*jax.device_put(arguments, device)))


def test_float32_gives_the_probabilities_of_the_cpu(gpu, cpu):
    # Float32 sums in another order, and convolutions that the library may compute by Winograd's
    # scheme; three steps, each reads what the last one wrote.
    np.testing.assert_allclose(probabilities(MODEL, gpu), probabilities(MODEL, cpu), atol=1e-4)


def test_bfloat16_stays_close_to_float32(gpu):
    narrow = GIEL(MODEL.spec, jnp.bfloat16)
    difference = np.abs(probabilities(narrow, gpu) - probabilities(MODEL, gpu))
    # 8 significant bits: 0.4 % at each of some 30 roundings in a row.
    assert 0 < difference.mean() < 0.02


def train_step(device):
    """Loss and gradient norm of one step, and the new weights."""
    batch = clip(batch=2, length=3, num_slots=2, num_objects=2)
    params = variables_of(MODEL)['params']
    optimizer = optax.sgd(0.1)
    state = steps.TrainState(np.int32(0), params, {}, {}, optimizer.init(params))
    step = jax.jit(steps.make_train_step(MODEL, optimizer, CONFIG))
    with jax.default_matmul_precision('highest'):
        state, metrics = step(*jax.device_put((state, batch), device))
    return jax.device_get((state.params, metrics))


def test_a_train_step_is_the_one_of_the_cpu(gpu, cpu):
    params, metrics = train_step(gpu)
    cpu_params, cpu_metrics = train_step(cpu)
    np.testing.assert_allclose(metrics['loss'], cpu_metrics['loss'], rtol=1e-5)
    np.testing.assert_allclose(metrics['gradient_norm'], cpu_metrics['gradient_norm'], rtol=1e-3)
    # The step has length 1.6 in all: 0.1 times the norm of the gradient.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), params, cpu_params)
