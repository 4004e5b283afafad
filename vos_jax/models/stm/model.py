"""STM: space-time memory networks (Oh, Lee, Xu and Kim, ICCV 2019), as released.

Each object has its own memory: it is encoded with the frame, its mask and that of the others.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vos_jax.models import protocol
from vos_jax.models.decoder import Decoder, KeyValueFeatures
from vos_jax.models.layers import Conv
from vos_jax.models.resnet import Encoder
from vos_jax.models.stm.spec import STMSpec
from vos_jax.ops import aggregation
from vos_jax.ops import memory as memory_ops
from vos_jax.ops.grid import Grid

RELEASED_OBJECTS = 10


@flax.struct.dataclass
class Memory:
    """Memory of T frames; also the entry of one frame (T = 1).

    Attributes:
      keys: [B, T, K, P, Ck]; values: [B, T, K, P, Cv], of each object.
      valid: bool[B, T, K, P], False in empty slots, in padding, and where the object was not yet
        known: it reads the frames from its first one on.
    """

    keys: jax.Array
    values: jax.Array
    valid: jax.Array


class STM(nn.Module):
    """The model; its methods are those of `protocol.Model`."""

    spec: STMSpec
    dtype: jnp.dtype | None = None

    # The memory encoder sees the frame itself; features of a memorised frame need not be kept.
    memorises_features = False
    encoders = ('query_encoder', 'memory_encoder')

    def setup(self):
        spec = self.spec
        self.query_encoder = Encoder(spec.encoder, dtype=self.dtype)
        self.memory_encoder = Encoder(spec.encoder, dtype=self.dtype)
        self.query_key = Conv(spec.key_channels, dtype=self.dtype)
        self.query_value = Conv(spec.value_channels, dtype=self.dtype)
        self.memory_key = Conv(spec.key_channels, dtype=self.dtype)
        self.memory_value = Conv(spec.value_channels, dtype=self.dtype)
        self.decoder = Decoder(spec.decoder_channels, 2, self.dtype)

    @property
    def stride(self):
        return self.spec.encoder.stage_strides[-1]

    def encode(self, frames, train=False):
        """KeyValueFeatures of u8[B, H, W, 3]."""
        r2, r3, r4 = self.query_encoder(self._image(frames), train)
        return KeyValueFeatures(
            r3, r2, self.query_key(r4), self.query_value(r4), size=frames.shape[1:3]
        )

    def memorise(self, frames, features, masks, objects, time, train=False):
        """Memory with T = 1; the memory encoder sees frame and masks itself."""
        del features, time
        own = jnp.where(objects[:, :, None, None], masks.objects, 0.0)
        if self.spec.memory_stop_gradient:
            own = jax.lax.stop_gradient(own)
        others = jnp.clip(own.sum(axis=1, keepdims=True) - own, 0.0, 1.0)
        image = self._image(frames)
        grid = self._grid(frames.shape[1:3])
        maps = grid.pad(jnp.stack([own, others], axis=-1), (2, 3)).astype(image.dtype)
        batch, slots = objects.shape
        images = jnp.broadcast_to(image[:, None], (*maps.shape[:-1], 3))
        x = jnp.concatenate([images, maps], axis=-1)
        r4 = self.memory_encoder(x.reshape(batch * slots, *x.shape[2:]), train)[-1]
        split = lambda y: y.reshape(batch, 1, slots, -1, y.shape[-1])  # noqa: E731
        keys, values = split(self.memory_key(r4)), split(self.memory_value(r4))
        # The released code reads padding like image.
        is_read = grid.valid() | (self.spec.compat == 'release')
        valid = objects[:, None, :, None] & is_read
        return Memory(keys, values, valid)

    def widen(self, entry, num_slots):
        """The new objects do not read that frame."""
        missing = num_slots - entry.valid.shape[2]
        return jax.tree.map(
            lambda a: jnp.pad(a, [(0, missing if axis == 2 else 0) for axis in range(a.ndim)]),
            entry,
        )

    def segment(self, features, memory, objects, time, train=False):
        """Each object reads its own memory, of at least one frame; no affinity is kept."""
        del time
        read = self.read(features, memory, train)
        decoded = self.decoder(features.value, read, features.r3, features.r2)
        # The softmax over two channels is the sigmoid of their difference.
        scores = self._grid(features.size).to_image(decoded[..., 1:] - decoded[..., :1])
        logits = aggregation.aggregate(jax.nn.log_sigmoid(scores), objects)
        if self.spec.compat == 'release':
            return protocol.Prediction(_released_probabilities(logits, objects), logits)
        return protocol.Prediction(aggregation.probabilities_of(logits), logits)

    def read(self, features, memory, train=False):
        """What each slot reads from its memory (STM, Eq. 2): [B, K, h, w, Cv]."""
        batch, height, width, channels = features.value.shape
        query = features.key.reshape(batch, height * width, -1)
        reads = []
        # One slot after the other, and in tiles: a bank of 20 frames has an affinity of 210 MB.
        for slot in range(memory.keys.shape[2]):
            own = jax.tree.map(lambda x, slot=slot: x[:, :, slot], memory)

            def of_pixels(query, _, own=own):
                weights = self.attend(own.keys, query, own.valid)
                return memory_ops.read_memory(weights, own.values)

            whole = train and not self.spec.train_in_tiles
            reads.append(memory_ops.in_tiles(of_pixels, query, own.valid, cpu_only=whole))
        return jnp.stack(reads, axis=1).reshape(batch, -1, height, width, channels)

    def attend(self, keys, query, valid):
        """Affinity f32[B, T, P, Q] of one slot: [B, T, P, Ck], [B, Q, Ck], bool[B, T, P]."""
        scale = 1.0 / np.sqrt(self.spec.key_channels)
        return memory_ops.affinity(memory_ops.dot_similarity(keys, query, scale), valid)

    __call__ = protocol.use_all

    def _grid(self, size):
        return Grid(size, self.stride, centred=self.spec.compat == 'release')

    def _image(self, frames):
        """Normalised and padded; padding is black in the release, else the mean colour."""
        grid, dtype = self._grid(frames.shape[1:3]), self.dtype or jnp.float32
        if self.spec.compat == 'release':
            return protocol.normalise(grid.pad(frames, (1, 2)), dtype)
        return grid.pad(protocol.normalise(frames, dtype), (1, 2))


def _released_probabilities(logits, objects):
    """Softmax over 11 slots, of which those not in use have odds of 1e-7: f32[B, K+1, H, W].

    They take up to 1e-6 of the probability, which matters along a clip only.
    """
    unused = jnp.maximum(RELEASED_OBJECTS - objects.sum(axis=1), 0)
    odds = unused * aggregation.EPSILON / (1.0 - aggregation.EPSILON)
    rest = jnp.where(unused > 0, jnp.log(jnp.maximum(odds, 1e-30)), memory_ops.NEGATIVE)
    total = jax.nn.logsumexp(logits, axis=1, keepdims=True)
    return jnp.exp(logits - jnp.logaddexp(total, rest[:, None, None, None]))
