"""A model in sixty lines: cells vote by the similarity of one convolution. See test_toy.py."""

import dataclasses
from typing import Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vos_jax.config.schema import ModelSpec
from vos_jax.config.spec import Count
from vos_jax.models import protocol, registry
from vos_jax.models.layers import Conv
from vos_jax.ops import aggregation, resize
from vos_jax.ops import memory as memory_ops
from vos_jax.ops.grid import Grid


@dataclasses.dataclass(frozen=True)
class ToySpec(ModelSpec):
    name: Literal['toy'] = dataclasses.field(default='toy', kw_only=True)
    channels: Count = 8


@flax.struct.dataclass
class Features:
    key: jax.Array  # [B, h, w, C]
    size: tuple = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class Memory:
    keys: jax.Array  # [B, T, P, C]
    shares: jax.Array  # [B, T, P, K]
    valid: jax.Array  # bool[B, T, P]


class Toy(nn.Module):
    spec: ToySpec
    dtype: jnp.dtype | None = None

    stride = 8
    memorises_features = True
    encoders = ()

    def setup(self):
        self.key = Conv(self.spec.channels, 7, self.stride, dtype=self.dtype)
        self.gain = self.param('gain', nn.initializers.ones, ())

    def encode(self, frames, train=False):
        x = Grid(frames.shape[1:3], self.stride).pad(protocol.normalise(frames), (1, 2))
        return Features(self.key(x), frames.shape[1:3])

    def memorise(self, frames, features, masks, objects, time, train=False):
        grid = Grid(features.size, self.stride)
        own = jnp.where(objects[:, :, None, None], masks.objects, 0.0)
        shares = resize.cell_means(grid.pad(own, (2, 3)), self.stride)
        valid = jnp.broadcast_to(grid.valid(), (len(objects), 1, grid.valid().size))
        keys = features.key.reshape(len(objects), 1, -1, self.spec.channels)
        shares = jnp.moveaxis(shares.reshape(*objects.shape, -1), 1, 2)
        return Memory(keys, shares[:, None], valid)

    def widen(self, entry, num_slots):
        missing = num_slots - entry.shares.shape[-1]
        return entry.replace(shares=jnp.pad(entry.shares, [(0, 0)] * 3 + [(0, missing)]))

    def segment(self, features, memory, objects, time, train=False):
        batch, height, width, channels = features.key.shape
        query = features.key.reshape(batch, -1, channels)
        similarity = memory_ops.dot_similarity(memory.keys, query, channels**-0.5)
        weights = memory_ops.affinity(similarity, memory.valid)
        read = jnp.moveaxis(memory_ops.read_memory(weights, memory.shares), 2, 1)
        scores = self.gain * (read.reshape(batch, -1, height, width, 1) - 0.5)
        image = Grid(features.size, self.stride).to_image(scores)
        logits = aggregation.aggregate(jax.nn.log_sigmoid(image), objects)
        return protocol.Prediction(aggregation.probabilities_of(logits), logits)

    __call__ = protocol.use_all


registry.MODELS['toy'] = registry.Entry(f'{__name__}:ToySpec', f'{__name__}:Toy')
