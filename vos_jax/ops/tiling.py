"""Work on some query pixels after the other, where all at once would need too much memory.

On CPUs tiles that stay in the cache are quicker too: they gain 17 % of a frame of giel_small, and
90 % of CFBI's global matching at 849x481.
"""

import jax
import jax.numpy as jnp
from jax import lax


def by_tiles(function, query, size, axis):
    """Applies a function that treats each query pixel by itself to tiles of pixels, in turn.

    Args:
      function: function(query [B, size, C], pixels i32[size]) -> tree of arrays whose `axis` is
        the tile's pixels. The last tile is filled up with zeros and numbers from Q on.
      query: [B, Q, C].
      size: pixels of a tile.
      axis: negative, of the results.

    Returns:
      The tree of `function(query, arange(Q))`.
    """
    batch, num_query, channels = query.shape
    num_tiles = -(-num_query // size)
    query = jnp.pad(query, ((0, 0), (0, num_tiles * size - num_query), (0, 0)))
    tiles = jnp.moveaxis(query.reshape(batch, num_tiles, size, channels), 1, 0)
    pixels = jnp.arange(num_tiles * size).reshape(num_tiles, size)

    def join(x):
        x = jnp.moveaxis(x, 0, axis - 1)
        before, after = x.shape[: axis - 1], x.shape[axis:][1:]
        return lax.slice_in_dim(x.reshape(*before, -1, *after), 0, num_query, axis=axis)

    return jax.tree.map(join, lax.map(lambda tile: function(*tile), (tiles, pixels)))
