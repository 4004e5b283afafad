"""GIEL: global and instance embedding learning (Ge, Lu and Shen, CVPR 2021)."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from vos_jax.errors import InputError
from vos_jax.models import efficientnet_lite, protocol
from vos_jax.models.decoder import Decoder, KeyValueFeatures
from vos_jax.models.giel.parts import CoarseHead, LabelEncoder, TemporalAttention
from vos_jax.models.giel.spec import GIELSpec
from vos_jax.models.layers import Conv
from vos_jax.models.resnet import Encoder
from vos_jax.ops import aggregation
from vos_jax.ops import memory as memory_ops
from vos_jax.ops.grid import Grid


@flax.struct.dataclass
class Memory:
    """Memory of T frames; also the entry of one frame (T = 1)."""

    keys: jax.Array  # [B, T, P, Ck]
    values: jax.Array  # [B, T, P, Cv], class-agnostic
    object_values: jax.Array  # [B, T, P, K, Cv], label code times value (Eq. 8)
    object_keys: jax.Array | None  # [B, T, P, K, Ck] without the instance embedding (ablation)
    cells: jax.Array  # [B, T, K, h', w'], masks as the label encoder takes them; to widen it
    valid: jax.Array  # bool[B, T, P], False in empty slots and padding
    time: jax.Array  # i32[B, T], frame number


class GIEL(nn.Module):
    """The model; its methods are those of `protocol.Model`."""

    spec: GIELSpec
    dtype: jnp.dtype | None = None

    encoders = ('query_encoder', 'support_encoder')

    def setup(self):
        spec = self.spec
        if self.memorises_features:
            self.query_encoder = efficientnet_lite.QueryEncoder(spec.encoder, self.dtype)
            self.support_encoder = efficientnet_lite.SupportEncoder(spec.encoder, self.dtype)
        else:
            self.query_encoder = Encoder(spec.encoder, dtype=self.dtype)
            self.support_encoder = Encoder(spec.encoder, spec.inject_mask, dtype=self.dtype)
        self.key = Conv(spec.key_channels, 1, dtype=self.dtype)
        self.value = Conv(spec.value_channels, 1, dtype=self.dtype)
        if spec.temporal_attention != 'none':
            self.temporal_attention = TemporalAttention(spec.key_channels, spec.temporal_projection)
        if spec.use_global:
            self.global_decoder = Decoder(spec.decoder_channels, dtype=self.dtype)
        if spec.use_instance:
            self.label_encoder = LabelEncoder(
                spec.value_channels, spec.label_downsample, spec.label_norm, self.dtype
            )
        if spec.variant == 'full':
            self.instance_decoder = Decoder(spec.decoder_channels, dtype=self.dtype)
        else:
            self.coarse = CoarseHead(spec.coarse_channels, self.dtype)
        if spec.learn_temperature:
            self.log_temperature = self.param('log_temperature', nn.initializers.zeros, ())
        if spec.locality == 'random_walk':
            # Standard deviations in cells: log a, log b.
            self.log_walk = self.param('log_walk', nn.initializers.constant(1.0), (2,))

    @property
    def memorises_features(self):
        """Whether the support encoder starts from the query encoder's features of the frame."""
        return isinstance(self.spec.encoder, efficientnet_lite.LiteSpec)

    @property
    def stride(self):
        return self.spec.encoder.stage_strides[-1]

    def encode(self, frames, train=False):
        """KeyValueFeatures of u8[B, H, W, 3]."""
        normalise = (efficientnet_lite if self.memorises_features else protocol).normalise
        x = normalise(frames, self.dtype or jnp.float32)
        r2, r3, r4 = self.query_encoder(self._grid(frames.shape[1:3]).pad(x, (1, 2)), train)
        return KeyValueFeatures(r3, r2, self.key(r4), self.value(r4), size=frames.shape[1:3])

    def memorise(self, frames, features, masks, objects, time, train=False):
        """Memory with T = 1; `features` are used where `memorises_features`."""
        spec = self.spec
        used = objects[:, :, None, None]
        object_masks = jnp.where(used, masks.objects, 0.0)
        foreground = masks.foreground
        if spec.support_source == 'aggregated':
            foreground = object_masks.sum(axis=1)
        if spec.support_mask == 'hard':
            foreground = (foreground > 0.5).astype(foreground.dtype)
        if spec.support_stop_gradient:
            foreground = jax.lax.stop_gradient(foreground)
        key, value = self._support(frames, features, foreground, train)
        grid = self._grid(frames.shape[1:3])
        padded = grid.pad(object_masks, (2, 3))
        object_keys = None
        if spec.use_instance:
            cells = self.label_encoder.prepare(padded, self.stride)
            object_values = self._instance_values(cells, objects, value, train)
        else:
            cells = padded
            object_keys, object_values = self._support_of_objects(
                frames, features, object_masks, train
            )
        valid = grid.valid()
        entry = Memory(
            keys=_flat(key),
            values=_flat(value),
            object_values=object_values,
            object_keys=object_keys,
            cells=cells.astype(value.dtype),
            valid=jnp.broadcast_to(valid, (frames.shape[0], valid.size)),
            time=time.astype(jnp.int32),
        )
        return jax.tree.map(lambda a: a[:, None], entry)

    def widen(self, entry, num_slots):
        """In the entry of that frame the new objects are absent.

        Raises:
          InputError: without the instance embedding, whose values follow from the masks alone.
        """
        if not self.spec.use_instance:
            raise InputError(
                'more objects than there are slots for, and none can be added without the instance '
                'embedding; give num_objects to start()'
            )
        missing = num_slots - entry.cells.shape[2]
        cells = jnp.pad(entry.cells[:, 0], ((0, 0), (0, missing), (0, 0), (0, 0)))
        used = jnp.ones(cells.shape[:2], bool)
        batch, _, pixels, channels = entry.values.shape
        height = cells.shape[2] // (1 if self.spec.label_downsample == 'area' else self.stride)
        value = entry.values.reshape(batch, height, pixels // height, channels)
        object_values = self._instance_values(cells, used, value, False)
        return entry.replace(cells=cells[:, None], object_values=object_values[:, None])

    def segment(self, features, memory, objects, time, train=False):
        """Slot 0 of the memory is the first frame; a large affinity is whole with `train` alone."""
        spec = self.spec
        batch, height, width, _ = features.key.shape
        grid = self._grid(features.size)
        weights, global_read, read = self._read(features, memory, time, train)
        global_logits = log_global = None
        if spec.use_global:
            global_read = global_read.reshape(batch, 1, height, width, -1)
            decoded = self.global_decoder(features.value, global_read, features.r3, features.r2)
            global_logits = grid.to_image(decoded)[:, 0]
            log_global = jax.nn.log_sigmoid(global_logits[:, None])
        read = read.reshape(*read.shape[:2], height, width, -1)
        if spec.variant == 'full':
            scores = self.instance_decoder(features.value, read, features.r3, features.r2)
        else:
            scores = self.coarse(features.value, read)
        log_p = jax.nn.log_sigmoid(grid.to_image(scores))
        if log_global is not None and (spec.instance_uses_global or spec.variant == 'fast'):
            log_p = log_p + log_global
        logits = aggregation.aggregate(log_p, objects)
        return protocol.Prediction(
            aggregation.probabilities_of(logits), logits, global_logits, weights
        )

    __call__ = protocol.use_all

    def _grid(self, size):
        return Grid(size, self.stride)

    def _support(self, frames, features, foreground, train):
        grid = self._grid(frames.shape[1:3])
        if self.memorises_features:
            r4 = self.support_encoder(features.r3, grid.pad(foreground, (1, 2)))
            return self.key(r4), self.value(r4)
        x = protocol.normalise(frames, self.dtype or jnp.float32)
        x = jnp.concatenate([x, foreground[..., None].astype(x.dtype)], axis=-1)
        r4 = self.support_encoder(grid.pad(x, (1, 2)), train)[-1]
        return self.key(r4), self.value(r4)

    def _support_of_objects(self, frames, features, masks, train):
        """One support encoding per object, as STM (ablation without the instance embedding)."""
        batch, slots = masks.shape[:2]
        frames, features = jax.tree.map(lambda x: jnp.repeat(x, slots, axis=0), (frames, features))
        flat_masks = masks.reshape(-1, *masks.shape[2:])
        key, value = self._support(frames, features, flat_masks, train)
        split = lambda x: _flat(x).reshape(batch, slots, -1, x.shape[-1]).swapaxes(1, 2)  # noqa: E731
        return split(key), split(value)

    def _instance_values(self, cells, used, value, train):
        """Label code times value (Eq. 8): [B, P, K, Cv]."""
        codes = self.label_encoder(cells.astype(value.dtype), used, train)
        products = codes * value[:, None]
        return jnp.moveaxis(_flat(products), 1, 2)

    def _read(self, features, memory, time, train):
        """Reads the memory for all cells of the query frame.

        Returns:
          affinity: f32[B, T, P, Q], None where it may be made in tiles; the read of the global
          branch: [B, Q, C], None without it; of all slots: [B, K, Q, Cv].
        """
        spec = self.spec
        factor, bias = self._modulation(features, memory)

        def read(query, cells):
            here = bias + self._locality(features, memory, time, cells)
            weights = self._affinity(memory.keys, query, memory, factor, here)
            of_objects = self._read_objects(weights, query, memory, factor, here)
            of_all = memory_ops.read_memory(weights, memory.values) if spec.use_global else None
            return weights, of_all, of_objects

        query = _flat(features.key)
        if train or memory.valid.size * query.shape[1] <= memory_ops.CACHED_VALUES:
            return read(query, jnp.arange(query.shape[1]))
        return None, *memory_ops.in_tiles(lambda *tile: read(*tile)[1:], query, memory.valid)

    def _locality(self, features, memory, time, cells):
        """Summand of the similarity to some query cells, f32[B, T, P, Q], or 0.0."""
        if self.spec.locality == 'none':
            return 0.0
        a, b = jnp.exp(2.0 * self.log_walk)
        elapsed = jnp.abs(time[:, None] - memory.time).astype(jnp.float32)
        variance = (a + b * elapsed)[..., None, None]
        distances = memory_ops.squared_distances(*features.key.shape[1:3], cells)
        return -distances / (2.0 * variance)

    def _modulation(self, features, memory):
        """Factor and summand of the similarity from temporal attention.

        Returns:
          factor: f32[B, T, 1, 1] or 1.0; bias: f32[B, T, 1, 1] or 0.0.
        """
        spec = self.spec
        if spec.temporal_attention == 'none':
            return 1.0, 0.0
        weights = self._frame_weights(features, memory)[..., None, None]
        if spec.temporal_attention == 'reweigh':
            return 1.0, jnp.log(jnp.maximum(weights, 1e-30))
        # D5, 'logits': T w_t is 1 for every frame when all scalars are equal.
        used = memory.valid.any(axis=2).sum(axis=1)[:, None, None, None]
        return used * weights, 0.0

    def _frame_weights(self, features, memory):
        valid = memory.valid[..., None].astype(jnp.float32)
        keys = memory.keys.astype(jnp.float32)
        means = (keys * valid).sum(axis=2) / jnp.maximum(valid.sum(axis=2), 1.0)
        inside = self._grid(features.size).valid().reshape(*features.key.shape[1:3], 1)
        query = features.key.astype(jnp.float32)
        query_mean = (query * inside).sum(axis=(1, 2)) / inside.sum()
        return self.temporal_attention(means, query_mean, memory.valid.any(axis=2))

    def _affinity(self, keys, query, memory, factor, bias):
        spec = self.spec
        scale = 1.0 / np.sqrt(spec.key_channels) if spec.affinity_scale else 1.0
        if spec.learn_temperature:
            scale = scale * jnp.exp(self.log_temperature)
        similar = {'dot': memory_ops.dot_similarity, 'l2': memory_ops.l2_similarity}[spec.affinity]
        similarity = similar(keys, query, scale)
        return memory_ops.affinity(factor * similarity + bias, memory.valid)

    def _read_objects(self, weights, query, memory, factor, bias):
        """Reads of all slots: [B, K, Q, Cv]."""
        if self.spec.use_instance:
            return memory_ops.read_memory_of_objects(weights, memory.object_values)
        reads = []
        for slot in range(memory.object_values.shape[3]):
            keys = memory.object_keys[:, :, :, slot]
            own = self._affinity(keys, query, memory, factor, bias)
            reads.append(memory_ops.read_memory(own, memory.object_values[:, :, :, slot]))
        return jnp.stack(reads, axis=1)


def _flat(x):
    """[..., h, w, C] -> [..., P, C]."""
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])
