"""Which policy of rematerialisation suits the memory of a device (`training.remat='auto'`)."""

import dataclasses
import functools
import math

import jax
import numpy as np
from jax.experimental import multihost_utils

from vos_jax.config.schema import REMAT
from vos_jax.training.step import Objective

# The estimate knows neither the compiler's own buffers nor what it fuses away.
SHARE = 0.85


def cheapest(needs, sizes, limit_bytes):
    """The policy that recomputes least among those that fit; 'full' where none does.

    Args:
      needs: Needs.
      sizes: of the axes of the mesh.
      limit_bytes: memory of a device; None: without a limit.
    """
    if limit_bytes is None:
        return REMAT[0]
    fitting = (name for name in REMAT if needs.of(name, sizes) <= SHARE * limit_bytes)
    return next(fitting, REMAT[-1])


class Needs:
    """Bytes that a train step takes on each device, estimated from traces; nothing is compiled."""

    def __init__(self, program):
        """
        Args:
          program: Program; its own policy does not count.
        """
        self._program = program
        self._saved = functools.cache(self._trace)

    def of(self, remat, sizes):
        """State, gradient, what the forward pass keeps, and what is recomputed at one time.

        Args:
          remat: policy.
          sizes: of the axes data, fsdp, spatial.
        """
        program, saved = self._program, self._saved
        kept = saved(remat)
        if remat != 'none':
            num_steps = program.config.data.clip_length - program.config.training.predict_from
            encoding = 0 if remat == 'step' else saved('step') - saved('full')
            kept += max(encoding, (saved('none') - saved('step')) / num_steps)
        state, weights = bytes_of(program.state), bytes_of(program.state.params)
        _, fsdp, _ = sizes
        gathered = weights if fsdp > 1 else 0
        parts = math.prod(sizes) * program.config.training.accumulate
        return (state + weights) / fsdp + gathered + kept / parts

    def _trace(self, remat):
        """Bytes that the backward pass of a whole batch gets from the forward pass."""
        program, config = self._program, self._program.config
        training = dataclasses.replace(config.training, remat=remat)
        objective = Objective(program.model, config.loss, training, config.seed)

        def backward(state, batch):
            def loss_of(params):
                return objective.loss_of(params, state, batch, None, state.step)[0]

            return jax.vjp(loss_of, state.params)[1]

        return bytes_of(jax.eval_shape(backward, program.state, program.shapes))


def bytes_of(tree):
    """Bytes of all arrays of a tree, or of their shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def decided(program):
    """The policy of a program's config, 'auto' decided for its devices; all processes agree."""
    remat, device = program.config.training.remat, program.mesh.local_devices[0]
    if remat != 'auto':
        return remat
    limit = None if device.platform == 'cpu' else (device.memory_stats() or {}).get('bytes_limit')
    index = REMAT.index(cheapest(Needs(program), tuple(program.mesh.shape.values()), limit))
    if jax.process_count() > 1:  # the limits of hosts may differ by a little
        index = int(multihost_utils.broadcast_one_to_all(np.int32(index)))
    return REMAT[index]
