"""What models that read a memory by keys and values keep of a frame."""

import flax.struct
import jax


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
