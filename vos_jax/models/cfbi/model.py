"""CFBI: foreground-background integration (Yang, Wei and Yang, ECCV 2020), as released.

The background is a slot of its own, slot 0 of S = K + 1. Where paper and released code differ,
this is the code.
"""

import dataclasses
import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vos_jax.models import efficientnet_lite, protocol
from vos_jax.models.cfbi.deeplab import DeepLab
from vos_jax.models.cfbi.parts import (
    DynamicOutput,
    Ensembler,
    GroupNorm,
    Separable,
    conv,
    depthwise,
)
from vos_jax.models.cfbi.spec import CFBISpec, network_size
from vos_jax.ops import aggregation, align, matching
from vos_jax.ops.memory import NEGATIVE

NONE = 255  # label of a pixel that belongs to no slot
HEADS = {'ensembler': Ensembler, 'separable': Separable}


@flax.struct.dataclass
class Features:
    """What depends on a frame alone, at stride 4 of the size at which the network sees it."""

    embedding: jax.Array  # f32[B, h, w, C]
    low: jax.Array  # [B, h, w, C'], low-level features
    size: tuple = flax.struct.field(pytree_node=False)  # (H, W) of the frame


@flax.struct.dataclass
class Memory:
    """Memory of T frames; also the entry of one frame (T = 1).

    The frame with the largest number is the previous frame; those given are the references.
    """

    embedding: jax.Array  # f32[B, T, h, w, C]
    labels: jax.Array  # u8[B, T, h, w], hard labels: 0 background, s + 1 for slot s, NONE
    given: jax.Array  # bool[B, T], whether a person gave the masks
    valid: jax.Array  # bool[B, T], False in empty slots
    time: jax.Array  # i32[B, T], frame number


class CFBI(nn.Module):
    """The model; its methods are those of `protocol.Model`."""

    spec: CFBISpec
    dtype: jnp.dtype | None = None

    # A frame is memorised by the embedding that it had as query frame.
    memorises_features = True
    stride = 16
    encoders = ('query_encoder',)

    def setup(self):
        spec = self.spec
        if self._is_lite:
            self.query_encoder = efficientnet_lite.QueryEncoder(spec.backbone, self.dtype)
        self.backbone = DeepLab(spec.backbone, self.dtype)
        self.embedding_depthwise = depthwise(3, dtype=self.dtype, name='embedding_depthwise')
        self.embedding_norm1 = GroupNorm(32)
        self.embedding_pointwise = conv(
            spec.embedding_channels, bias=True, dtype=self.dtype, name='embedding_pointwise'
        )
        self.embedding_norm2 = GroupNorm(25)
        self.prehead = conv(spec.prehead_channels, bias=True, dtype=self.dtype, name='prehead')
        self.prehead_norm = GroupNorm(16)
        self.head = HEADS[spec.head](spec.head_channels, self.dtype)
        self.output = DynamicOutput()
        if spec.distance_bias:
            self.background_bias = self.param('background_bias', nn.initializers.zeros, ())
            self.foreground_bias = self.param('foreground_bias', nn.initializers.zeros, ())

    def encode(self, frames, train=False):
        """Features of u8[B, H, W, 3], resized to 16 k + 1 pixels (`spec.network_size`)."""
        x = self._input(frames)
        stages = self.query_encoder(x, train)[::2] if self._is_lite else None
        x, low = self.backbone(x, train, stages)
        x = nn.relu(self.embedding_norm1(self.embedding_depthwise(x)))
        x = self.embedding_pointwise(x).astype(jnp.float32)
        return Features(nn.relu(self.embedding_norm2(x)), low, size=frames.shape[1:3])

    def memorise(self, frames, features, masks, objects, time, train=False):
        """Memory with T = 1: the embedding that the frame had as query, and hard labels."""
        del frames, train
        grid = features.embedding.shape[1:3]
        # First to the grid, then hard: the nearest rule takes pixels as they are.
        cells = align.nearest(jnp.where(objects[:, :, None, None], masks.objects, 0.0), grid)
        background = 1.0 - cells.sum(axis=1, keepdims=True)
        entry = Memory(
            embedding=features.embedding,
            labels=aggregation.labels_of(jnp.concatenate([background, cells], axis=1)),
            given=masks.given,
            valid=jnp.ones_like(masks.given),
            time=time.astype(jnp.int32),
        )
        return jax.tree.map(lambda a: a[:, None], entry)

    def widen(self, entry, num_slots):
        """Labels need no room."""
        del num_slots
        return entry

    def segment(self, features, memory, objects, time, train=False):
        """At least one frame of the memory is given."""
        del time, train
        used = jnp.concatenate([jnp.ones_like(objects[:, :1]), objects], axis=1)  # [B, S]
        is_reference = (memory.valid & memory.given)[..., None, None]
        references = jnp.where(is_reference, memory.labels, NONE)
        previous, labels = _latest(memory)
        masks = _masks_of(labels, used)  # [B, S, h, w]
        current = features.embedding
        global_maps = self._match_globally(current, memory.embedding, references, used)
        local_maps = self._match_locally(current, previous, labels, used)
        maps = self._prepared(global_maps, local_maps, masks, used)
        guidance = self._guidance(memory, references, previous, masks)
        parts = [jnp.broadcast_to(current[:, None], (*masks.shape, current.shape[-1]))]
        parts += [previous[:, None] * masks[..., None], previous[:, None] * (1 - masks)[..., None]]
        x = jnp.concatenate([*(part.astype(maps.dtype) for part in parts), maps], axis=-1)
        low = jnp.broadcast_to(features.low[:, None], (*masks.shape, features.low.shape[-1]))
        x = self.head(_as_batch(x), _as_batch(low), guidance)
        logits = self._combined(*self.output(x, guidance), used)
        logits = align.resize_maps(logits, features.size)
        logits = jnp.where(used[:, :, None, None], logits, NEGATIVE)
        return protocol.Prediction(aggregation.probabilities_of(logits), logits)

    def at_scale(self, scale, max_edge=None):
        """The same model for frames of another size; see `protocol.Scalable`."""
        max_edge = max_edge or self.spec.max_edge
        return self.clone(spec=dataclasses.replace(self.spec, scale=scale, max_edge=max_edge))

    __call__ = protocol.use_all

    @property
    def _is_lite(self):
        return isinstance(self.spec.backbone, efficientnet_lite.LiteSpec)

    def _input(self, frames):
        spec = self.spec
        size = network_size(frames.shape[1:3], spec.max_edge, spec.scale)
        if spec.channel_order == 'bgr':
            # The statistics stay in the order of RGB: so the released weights were trained.
            frames = frames[..., ::-1]
        cubic = functools.partial(align.cubic_weights, aligned=False)  # as OpenCV
        frames = align.resize(frames, size, cubic)
        normalise = (efficientnet_lite if self._is_lite else protocol).normalise
        return normalise(frames, self.dtype or jnp.float32)

    def _bias(self, num_slots):
        """f32[S, 1, 1]: the bias of the background, then that of the objects."""
        if not self.spec.distance_bias:
            return jnp.zeros((num_slots, 1, 1))
        is_background = jnp.arange(num_slots)[:, None, None] == 0
        return jnp.where(is_background, self.background_bias, self.foreground_bias)

    def _match_globally(self, current, references, labels, used):
        """Proxy of the distance to the references: f32[B, S, 1, h, w]."""
        rate = self.spec.global_atrous
        references, labels = references[:, :, ::rate, ::rate], labels[:, :, ::rate, ::rate]
        batch, height, width, channels = current.shape
        num_slots = used.shape[1]
        distances = matching.match_globally(
            current.reshape(batch, -1, channels),
            references.reshape(batch, -1, channels),
            labels.reshape(batch, -1).astype(jnp.int32),
            num_slots,
            self.spec.matching_dtype,
            fused=self.spec.matching_kernel,
        ).reshape(batch, num_slots, height, width)
        return matching.proxy(distances, self._bias(num_slots))[:, :, None]

    def _match_locally(self, current, previous, labels, used):
        """Proxies of the distances to the previous frame within windows: f32[B, S, W, h, w]."""
        size = current.shape[1:3]
        half = tuple(side // 2 + 1 for side in size)
        num_slots = used.shape[1]
        distances = matching.match_locally(
            align.resize(current, half),
            align.resize(previous, half),
            # Cells by the nearest rule, embeddings by aligned corners, as released.
            align.nearest(labels.astype(jnp.int32), half),
            num_slots,
            self.spec.windows,
            self.spec.matching_dtype,
        )
        maps = matching.proxy(distances, self._bias(num_slots))
        return jnp.moveaxis(align.resize_maps(maps, size), 2, 1)

    def _prepared(self, global_maps, local_maps, masks, used):
        """Maps and mask through the prehead: [B, S, h, w, prehead_channels]."""
        maps = [global_maps, local_maps, masks[:, :, None]]
        if self.spec.matching_background:
            maps += [matching.others(local_maps, used), matching.others(global_maps, used)]
        maps = jnp.moveaxis(jnp.concatenate(maps, axis=2), 2, -1)
        x = nn.relu(self.prehead_norm(self.prehead(_as_batch(maps))))
        return x.reshape(*maps.shape[:-1], -1)

    def _guidance(self, memory, references, previous, masks):
        """Guidance vectors f32[N, G]: means of slot and of the rest, references then previous."""
        spec = self.spec
        if not spec.instance_attention:
            return None
        slots = jnp.arange(masks.shape[1])[:, None, None]
        reference_masks = (references[:, :, None] == slots).astype(jnp.float32)  # [B, T, S, h, w]
        is_reference = (memory.valid & memory.given).astype(jnp.float32)
        vectors = [
            *_slot_means(memory.embedding, reference_masks, is_reference),
            *_slot_means(previous[:, None], masks[:, None], jnp.ones_like(is_reference[:, :1])),
        ]
        if not spec.attention_background:
            vectors = vectors[::2]
        return _as_batch(jnp.concatenate(vectors, axis=-1))

    def _combined(self, foreground, background, used):
        """Logits f32[B, S, h, w]: the background adds the least background logit of an object."""
        shape = (*used.shape, *foreground.shape[1:])
        foreground, background = foreground.reshape(shape), background.reshape(shape)
        objects = used[:, 1:, None, None]
        relative = jnp.where(objects, background[:, 1:], -NEGATIVE).min(axis=1)
        relative = jnp.where(objects.any(axis=1), relative, 0.0)
        return foreground.at[:, 0].add(relative)


def _as_batch(x):
    """[B, S, ...] -> [B * S, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _latest(memory):
    """Embedding [B, h, w, C] and labels [B, h, w] of the frame with the largest number."""
    index = jnp.argmax(jnp.where(memory.valid, memory.time, -1), axis=1)

    def pick(x):
        return jax.vmap(lambda frames, i: frames[i])(x, index)

    return pick(memory.embedding), pick(memory.labels)


def _masks_of(labels, used):
    """f32[B, S, h, w] from hard labels."""
    slots = jnp.arange(used.shape[1])[:, None, None]
    return (labels[:, None] == slots).astype(jnp.float32)


def _slot_means(embedding, masks, frames):
    """Mean embeddings f32[B, S, C] of each slot, and of everything else, over all frames together.

    embedding: f32[B, T, h, w, C]; masks: f32[B, T, S, h, w]; frames: f32[B, T], 1 if it counts.
    Zeros for a slot without pixels.
    """
    # The rest is summed too: a difference of sums leaves rounding where there is no rest.
    rest = frames[:, :, None, None, None] - masks
    return [
        jnp.einsum('bthwc,btshw->bsc', embedding, part, precision='highest')
        / (part.sum(axis=(1, 3, 4))[..., None] + 1e-5)
        for part in (masks, rest)
    ]
