"""Reading a space-time memory (STM, section 3.2; GIEL, Eqs. 4, 5 and 9).

The affinity of one frame is shared by everything that is read from the memory, so it is computed
once and each read is one contraction.
"""

import jax
import jax.numpy as jnp

# Large enough that exp() is exactly 0 in float32, finite so that no gradient becomes NaN.
NEGATIVE = -1e9
# Weights of an affinity that are held at once, 64 MB: eight frames of 6,420 cells have 330 million.
TILE_VALUES = 2**24
# The same on CPUs, where fewer would do: 4 MB stay in the caches.
CACHED_VALUES = 2**20


def dot_similarity(keys, query, scale=1.0):
    """Dot product of every memory key with every query key (GIEL, Eq. 4).

    Args:
      keys: [B, T, P, Ck], keys of the memory.
      query: [B, Q, Ck], keys of the query frame.
      scale: factor; 1/sqrt(Ck) in the released STM code, 1 in GIEL's Eq. 4.

    Returns:
      f32[B, T, P, Q].
    """
    return scale * jnp.einsum('btpc,bqc->btpq', keys, query, preferred_element_type=jnp.float32)


def l2_similarity(keys, query, scale=1.0):
    """Negative squared distance of every memory key to every query key, up to a query constant.

    The term |query|^2 is the same for all memory pixels and cancels in the softmax; it is left out.

    Args:
      keys: [B, T, P, Ck].
      query: [B, Q, Ck].
      scale: factor (an inverse temperature).

    Returns:
      f32[B, T, P, Q], `scale * (2 keys.query - |keys|^2)`.
    """
    product = jnp.einsum('btpc,bqc->btpq', keys, query, preferred_element_type=jnp.float32)
    norms = jnp.square(keys.astype(jnp.float32)).sum(axis=-1)
    return scale * (2.0 * product - norms[..., None])


def squared_distances(height, width, cells):
    """Squared distances in cells from all cells of a grid to some of them.

    Args:
      height, width: of the grid; P = height * width.
      cells: i32[Q], numbers of cells, row by row.

    Returns:
      f32[P, Q].
    """
    rows, columns = jnp.divmod(jnp.arange(height * width)[:, None], width)
    to_rows, to_columns = jnp.divmod(cells[None], width)
    return (jnp.square(rows - to_rows) + jnp.square(columns - to_columns)).astype(jnp.float32)


def tile_size(query, valid, num_values=TILE_VALUES):
    """Query pixels whose weights, about `num_values` at most, are held at once.

    Args:
      query: [B, Q, Ck].
      valid: bool[B, T, P].
    """
    num_query = query.shape[1]
    num_tiles = -(-num_query * valid.size // num_values)
    return -(-num_query // num_tiles)


def affinity(similarity, valid):
    """Softmax over all memory pixels of all frames together, for each query pixel (GIEL, Eq. 4).

    Args:
      similarity: f32[B, T, P, Q].
      valid: bool[B, T, P]; False for empty memory slots and for padding, which get weight
        exactly 0. At least one pixel must be valid.

    Returns:
      f32[B, T, P, Q]; sums to 1 over T and P.
    """
    masked = jnp.where(valid[..., None], similarity, NEGATIVE)
    return jax.nn.softmax(masked, axis=(1, 2))


def read_memory(weights, values):
    """Reads one value per pixel: the affinity-weighted mean of the memory values (GIEL, Eq. 5).

    Args:
      weights: f32[B, T, P, Q], from `affinity`.
      values: [B, T, P, C].

    Returns:
      [B, Q, C] in the dtype of `values`; sums are in float32.
    """
    batch, frames, pixels, queries = weights.shape
    # One long axis: with two, XLA's CPU backend transposes the weights and takes 1.6 times as long.
    weights = weights.reshape(batch, frames * pixels, queries).astype(values.dtype)
    values = values.reshape(batch, frames * pixels, -1)
    read = jnp.einsum('bpq,bpc->bqc', weights, values, preferred_element_type=jnp.float32)
    return read.astype(values.dtype)


def read_memory_of_objects(weights, values):
    """Reads the values of all object slots in one contraction (GIEL, Eq. 9).

    Args:
      weights: f32[B, T, P, Q], from `affinity`; shared by the slots.
      values: [B, T, P, K, Cv].

    Returns:
      [B, K, Q, Cv] in the dtype of `values`; sums are in float32.
    """
    batch, frames, pixels, slots, channels = values.shape
    read = read_memory(weights, values.reshape(batch, frames, pixels, slots * channels))
    return jnp.moveaxis(read.reshape(batch, -1, slots, channels), 2, 1)
