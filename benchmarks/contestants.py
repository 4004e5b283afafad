"""What `benchmarks.compare_pytorch` times: each part of each model, as our code and as PyTorch.

A contestant is a function without arguments that does one unit of work (a frame, a train step, a
matching) and returns when its result is there. `make` builds it on inputs and weights that are the
same for all codes.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import configs, inference, inputs, matching, measuring, train_step
from vos_jax import compilation
from vos_jax.models import registry
from vos_jax.ops import matching as matching_ops
from vos_jax.training import step as steps
from vos_jax.training.optimizer import make_optimizer

CODES = {'vos_jax': 'vos_jax', 'eager': 'PyTorch', 'compiled': 'PyTorch, torch.compile'}
PARTS = {
    'giel': ('inference', 'training'),
    'stm': ('inference', 'training'),
    'cfbi_matching': (
        'global, forward',
        'global, gradient',
        'local, forward',
        'local, gradient',
    ),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is compared.

    Attributes:
      model: key of `PARTS`; part: one of its parts.
      config: FILE[:VARIANT] of giel and stm.
      dtype: 'float32', 'bfloat16', or '' for what suits the device.
      size: (height, width) of the frames, or of the crop in training.
      objects: slots, all in use.
      batch: clips, in training.
    """

    model: str
    part: str
    config: str
    dtype: str
    size: tuple
    objects: int
    batch: int


class Contestant(NamedTuple):
    """`step` does one unit; `first_s` is the time of the first one, with its compilation.

    `result` is what the first unit gave (labels, or a loss): equal, but for rounding, in all codes.
    """

    step: Callable
    first_s: float
    result: np.ndarray


def make(task, code):
    """Builds a contestant, warmed up."""
    if code != 'vos_jax':
        from benchmarks.pytorch import running as pytorch

        pytorch.prepare(measuring.num_cores())
    if task.model == 'cfbi_matching':
        return _matching(task, code)
    return {'inference': _inference, 'training': _training}[task.part](task, code)


def _inference(task, code):
    if code == 'vos_jax':
        one = inference.Running(task.config, task.dtype, task.size, task.objects)
        return Contestant(one.step, one.first_s, one.labels)
    from benchmarks.pytorch import running, weights

    config = configs.load_for_device(task.config, task.dtype)
    model = registry.build(config.model)
    twin = weights.make_twin(model, inputs.variables_of(model, task.objects))
    dtype = config.model.dtype
    compiled = code == 'compiled'
    one = running.Running(twin, task.size, task.objects, inference.NUM_MEMORY, dtype, compiled)
    return Contestant(one.step, one.first_s, one.labels)


def _training(task, code):
    # PyTorch keeps all activations; and XLA's loops are slower on CPUs.
    how = {'remat': 'none', 'unrolled': jax.default_backend() == 'cpu'}
    config = configs.load_for_device(task.config, task.dtype, **how)
    model = registry.build(config.model)
    length = config.data.clip_length
    batch = inputs.make_batch(task.batch, length, task.size, task.objects)
    if code == 'vos_jax':
        step = _our_training(model, config, batch)
    else:
        step = _its_training(model, config, batch, compiled=code == 'compiled')
    return _started(step)


def _our_training(model, config, batch):
    optimizer, _ = make_optimizer(config.optimizer, config.training.steps)
    state = jax.device_put(train_step.make_state(model, optimizer, batch, ema_decay=0.0))
    train = steps.make_train_step(model, optimizer, config)
    options = compilation.options_of_train_step(jax.default_backend())
    compiled = jax.jit(train, donate_argnums=0, compiler_options=options)

    def step():
        nonlocal state
        state, metrics = compiled(state, jax.device_put(batch))
        jax.block_until_ready(state)
        return np.asarray(metrics['loss'])

    return step


def _its_training(model, config, batch, compiled):
    import torch

    from benchmarks.pytorch import clips, running, weights

    variables = inputs.variables_of(model, 1)
    twin = weights.make_twin(model, variables).to(running.device())
    twin = twin.to(memory_format=torch.channels_last)
    rate, weights_of = config.optimizer.learning_rate, dataclasses.asdict(config.loss)
    training = clips.Training(twin, clips.unroll_of(model), weights_of, rate, compiled)

    def step():
        arrays = [torch.from_numpy(array).to(running.device()) for array in batch.values()]
        with running.precision(config.model.dtype):
            return np.asarray(training.step(*arrays))

    return step


def _matching(task, code):
    kind, part = task.part.split(', ')
    arrays = matching.make_inputs(kind, task.size, task.objects)
    num_slots = task.objects + 1
    start = time.perf_counter()
    if code == 'vos_jax':
        run = matching.runner(kind, part, arrays, num_slots)
    else:
        from benchmarks.pytorch import matching as plain

        windows, compiled = matching_ops.WINDOWS, code == 'compiled'
        run = plain.runner(kind, part, arrays, num_slots, windows, compiled=compiled)
    first = jax.tree.leaves(jax.block_until_ready(run()))[0]
    first_s = time.perf_counter() - start
    result = np.asarray(first).ravel()
    return Contestant(
        lambda: jax.block_until_ready(run()),
        first_s,
        np.tanh(result / 2) if part == 'forward' else result,
    )


def _started(step):
    """A contestant whose first unit is done now."""
    start = time.perf_counter()
    result = step()
    return Contestant(step, time.perf_counter() - start, result)
