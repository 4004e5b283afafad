"""STM's decoder: a 3x3 convolution, residual blocks, two refinement modules (STM, section 3.3)."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vos_jax.models.layers import ConcatConv, Conv, ResBlock
from vos_jax.ops import resize


@flax.struct.dataclass
class KeyValueFeatures:
    """What depends on a frame alone: skip features, key and value of the query encoder.

    `size` is the (H, W) of the frame before padding.
    """

    r3: jax.Array
    r2: jax.Array
    key: jax.Array
    value: jax.Array
    size: tuple = flax.struct.field(pytree_node=False)


class Skip(nn.Module):
    """The part of a refinement module that depends on the query frame alone."""

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, r):
        """r: [B, h, w, C] -> [B, h, w, features]."""
        r = Conv(self.features, 3, dtype=self.dtype, name='conv')(r)
        return ResBlock(self.features, self.dtype, name='block')(r)


class Decoder(nn.Module):
    """Decodes the embeddings of all object slots as one batch.

    The skip features and the shared half of the first convolution are computed once per frame.
    """

    features: int
    outputs: int = 1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, query_value, read, r3, r2):
        """Decodes one map per slot: f32[B, K, h2, w2, outputs], logits at the size of r2.

        query_value: [B, h, w, Cv], shared by the slots; read: [B, K, h, w, Cv], what each slot read
        from the memory; r3, r2: skip features of the query frame.
        """
        batch, slots = read.shape[:2]
        m = ConcatConv(self.features, self.dtype, name='conv')(query_value, read)
        m = m.reshape(batch * slots, *m.shape[2:])
        m = ResBlock(self.features, self.dtype, name='block')(m)
        for name, r in (('3', r3), ('2', r2)):
            skip = Skip(self.features, self.dtype, name=f'skip{name}')(r)
            m = resize.upsample(m, r.shape[1] // m.shape[1])
            m = skip[:, None] + m.reshape(batch, slots, *m.shape[1:])
            m = m.reshape(batch * slots, *m.shape[2:])
            m = ResBlock(self.features, self.dtype, name=f'block{name}')(m)
        m = Conv(self.outputs, 3, dtype=self.dtype, name='predict')(nn.relu(m))
        return m.astype(jnp.float32).reshape(batch, slots, *m.shape[1:])
