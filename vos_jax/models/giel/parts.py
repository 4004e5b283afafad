"""Parts of GIEL that are its own: temporal attention, label encoder, coarse head."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vos_jax.models.layers import Conv, Norm
from vos_jax.ops import memory as memory_ops
from vos_jax.ops import resize


class TemporalAttention(nn.Module):
    """A weight per memory frame, from the first frame's, its own and the query's key (Fig. 3)."""

    channels: int
    projection: str = 'own'

    @nn.compact
    def __call__(self, memory_means, query_mean, used):
        """Weights f32[B, T] of the memory frames: a softmax over those in use, bool[B, T].

        memory_means: f32[B, T, Ck], mean keys, slot 0 of the first frame; query_mean: f32[B, Ck].
        """
        # A 1x1 convolution and global average pooling commute, so the means are projected.
        roles = (memory_means[:, :1], memory_means, query_mean[:, None])
        if self.projection == 'shared':  # D4
            layers = 3 * (nn.Dense(self.channels, name='shared'),)
        else:
            layers = [nn.Dense(self.channels, name=name) for name in ('first', 'frame', 'query')]
        parts = [layer(x) for layer, x in zip(layers, roles, strict=True)]
        x = jnp.concatenate([jnp.broadcast_to(p, memory_means.shape) for p in parts], axis=-1)
        x = nn.relu(nn.Dense(self.channels, name='dense1')(x))
        x = nn.relu(nn.Dense(self.channels, name='dense2')(x))
        # Starts at zero: training starts from a plain memory.
        scores = nn.Dense(1, kernel_init=nn.initializers.zeros, name='dense3')(x)[..., 0]
        return jax.nn.softmax(jnp.where(used, scores, memory_ops.NEGATIVE), axis=1)


class LabelEncoder(nn.Module):
    """Two convolutions and norms on [object, other objects, background] (GIEL, Eq. 7; D6)."""

    channels: int
    downsample: str
    norm: str
    dtype: jnp.dtype | None = None

    def prepare(self, masks, stride):
        """Masks [B, K, H, W] of a padded frame as this encoder takes them."""
        return resize.cell_means(masks, stride) if self.downsample == 'area' else masks

    @nn.compact
    def __call__(self, cells, used, train=False):
        """Codes [N, K, h, w, Cv] of prepared masks [N, K, h', w'], which are 0 for unused slots."""
        batch, slots, height, width = cells.shape
        union = cells.sum(axis=1, keepdims=True)
        parts = [cells, union - cells, jnp.broadcast_to(1.0 - union, cells.shape)]
        x = jnp.stack(parts, axis=-1).reshape(batch * slots, height, width, 3)
        size, stride = (3, 1) if self.downsample == 'area' else (7, 4)
        # BatchNorm takes a bias out again.
        settings = dict(stride=stride, use_bias=self.norm != 'bn', dtype=self.dtype)
        mask = used.reshape(batch * slots, 1, 1, 1)
        first = Conv(64, size, **settings, name='conv1')
        x = nn.relu(Norm(self.norm, name='norm1')(x, train=train, mask=mask, of=first))
        second = Conv(self.channels, size, **settings, name='conv2')
        x = Norm(self.norm, name='norm2')(x, train=train, mask=mask, of=second)
        return x.reshape(batch, slots, *x.shape[1:])


class CoarseHead(nn.Module):
    """f_coarse: two 1x1 convolutions on an object's embedding (Eq. 10, D7)."""

    channels: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, query_value, read):
        """query_value: [B, h, w, Cv]; read: [B, K, h, w, Cv] -> f32[B, K, h, w, 1]."""
        shared = jnp.broadcast_to(query_value[:, None], read.shape)
        x = jnp.concatenate([shared, read], axis=-1)
        x = nn.relu(Conv(self.channels, 1, dtype=self.dtype, name='conv1')(x))
        return Conv(1, 1, dtype=self.dtype, name='conv2')(x).astype(jnp.float32)
