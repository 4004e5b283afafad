"""Reading a space-time memory (STM, section 3.2; GIEL, Eqs. 4, 5 and 9).

The affinity of one frame is shared by everything that is read from the memory, so it is computed
once and each read is one contraction.
"""

import jax
import jax.numpy as jnp

from vos_jax.ops.cpu import switch
from vos_jax.ops.tiling import by_tiles

# Large enough that exp() is exactly 0 in float32, finite so that no gradient becomes NaN.
NEGATIVE = -1e9
# Weights of an affinity that are held at once, 64 MB: eight frames of 6,420 cells have 330 million.
TILE_VALUES = 2**24
# The same on CPUs, where fewer would do: 4 MB stay in the caches.
CACHED_VALUES = 2**20


def dot_similarity(keys, query, scale=1.0):
    """Dot product of every memory key with every query key (GIEL, Eq. 4).

    Keys [B, T, P, Ck], query [B, Q, Ck] -> f32[B, T, P, Q], times `scale`: 1/sqrt(Ck) in the
    released STM code, 1 in GIEL's Eq. 4.
    """
    return scale * jnp.einsum('btpc,bqc->btpq', keys, query, preferred_element_type=jnp.float32)


def l2_similarity(keys, query, scale=1.0):
    """Negative squared distance, without |query|^2, which is the same for all memory pixels.

    Keys [B, T, P, Ck], query [B, Q, Ck] -> f32[B, T, P, Q], `scale * (2 keys.query - |keys|^2)`.
    """
    product = jnp.einsum('btpc,bqc->btpq', keys, query, preferred_element_type=jnp.float32)
    norms = jnp.square(keys.astype(jnp.float32)).sum(axis=-1)
    return scale * (2.0 * product - norms[..., None])


def squared_distances(height, width, cells):
    """Squared distances f32[P, Q] from all cells of a grid to some, numbered row by row."""
    rows, columns = jnp.divmod(jnp.arange(height * width)[:, None], width)
    to_rows, to_columns = jnp.divmod(cells[None], width)
    return (jnp.square(rows - to_rows) + jnp.square(columns - to_columns)).astype(jnp.float32)


def tile_size(query, valid, num_values):
    """Query pixels whose weights, about `num_values` at most, are held at once.

    query [B, Q, Ck]; valid bool[B, T, P].
    """
    num_query = query.shape[1]
    num_tiles = -(-num_query * valid.size // num_values)
    return -(-num_query // num_tiles)


def in_tiles(read, query, valid, *, cpu_only=False):
    """What all query pixels read, without more weights at once than fit; in the gradient neither.

    On CPUs those that fit are the ones that stay in the caches.

    Args:
      read: function (query [B, q, Ck], cells i32[q]) -> tree of arrays [..., q, C].
      query: [B, Q, Ck].
      valid: bool[B, T, P].
      cpu_only: whether all other devices read all at once.

    Returns:
      The tree of `read(query, arange(Q))`.
    """
    cells = jnp.arange(query.shape[1])
    size, cached = (tile_size(query, valid, n) for n in (TILE_VALUES, CACHED_VALUES))
    size = len(cells) if cpu_only else size
    tile = jax.checkpoint(read)  # or the backward pass would get the weights of all tiles
    if size < len(cells):
        return by_tiles(tile, query, size, axis=-2)
    if cached == len(cells):
        return read(query, cells)
    return switch.on_cpu(
        'tiles',
        lambda query: by_tiles(tile, query, cached, axis=-2),
        lambda query: read(query, cells),
        query,
    )


def affinity(similarity, valid):
    """Softmax over all memory pixels of all frames together, for each query pixel (GIEL, Eq. 4).

    Similarity f32[B, T, P, Q], and valid bool[B, T, P]: False for empty memory slots and for
    padding, which get weight exactly 0; one pixel at least is valid. Sums to 1 over T and P.
    """
    masked = jnp.where(valid[..., None], similarity, NEGATIVE)
    return jax.nn.softmax(masked, axis=(1, 2))


def read_memory(weights, values):
    """Reads one value per pixel: the affinity-weighted mean of the memory values (GIEL, Eq. 5).

    Weights f32[B, T, P, Q] and values [B, T, P, C] -> [B, Q, C] in the dtype of the values; sums
    are in float32.
    """
    batch, frames, pixels, queries = weights.shape
    # One long axis: with two, XLA's CPU backend transposes the weights and takes 1.6 times as long.
    weights = weights.reshape(batch, frames * pixels, queries).astype(values.dtype)
    values = values.reshape(batch, frames * pixels, -1)
    read = jnp.einsum('bpq,bpc->bqc', weights, values, preferred_element_type=jnp.float32)
    return read.astype(values.dtype)


def read_memory_of_objects(weights, values):
    """Reads the values of all slots in one contraction (GIEL, Eq. 9).

    Values [B, T, P, K, Cv] -> [B, K, Q, Cv]; the slots share the weights f32[B, T, P, Q].
    """
    batch, frames, pixels, slots, channels = values.shape
    read = read_memory(weights, values.reshape(batch, frames, pixels, slots * channels))
    return jnp.moveaxis(read.reshape(batch, -1, slots, channels), 2, 1)
