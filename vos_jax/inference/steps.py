"""What inference compiles: once for each frame size and number of object slots."""

import functools

import jax
import jax.numpy as jnp

from vos_jax.inference import temporal
from vos_jax.models import protocol
from vos_jax.ops import aggregation


@functools.partial(jax.jit, static_argnums=0)
def encode(model, variables, frame):
    """Features of u8[1, H, W, 3], for models that memorise them."""
    return model.apply(variables, frame, method='encode')


@functools.partial(jax.jit, static_argnums=0)
def advance(model, variables, entries, previous, frame, objects, position, is_read, time):
    """One frame, everything on the device: memorises the frame before, segments this one.

    Args:
      model, variables: the model.
      entries: tuple of memory entries of one frame each; empty ones fill it up.
      previous: temporal.Previous.
      frame: u8[1, H, W, 3].
      objects: bool[1, K], slots in use.
      position: i32 scalar, slot of the memory for the frame before.
      is_read: bool scalar, whether it is read at once.
      time: i32[1], number of this frame.

    Returns:
      Dict: `labels` u8[1, H, W] slot labels, `probabilities` f32[1, K + 1, H, W], `masks`,
      `features` (or None) and `entry`, of the frame before.
    """
    memory = protocol.assemble(entries)
    features = model.apply(variables, frame, method='encode')
    prediction, _, entry, _ = temporal.temporal_step(
        model, variables, memory, previous, features, objects, position, time, is_read=is_read
    )
    return {
        'labels': aggregation.labels_of(prediction.logits),
        'probabilities': prediction.probabilities,
        'masks': prediction.masks(),
        'features': features if model.memorises_features else None,
        'entry': entry,
    }


@functools.partial(jax.jit, static_argnums=0)
def advance_together(model, variables, inputs):
    """`advance` for several videos in one program.

    Args:
      model, variables: the model.
      inputs: tuple, for each video the arguments of `advance` after these; of equal shapes.

    Returns:
      List of results.
    """
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *inputs)
    results = jax.vmap(lambda one: advance(model, variables, *one))(stacked)
    return [jax.tree.map(lambda part, i=i: part[i], results) for i in range(len(inputs))]


@functools.partial(jax.jit, static_argnums=0)
def memorise(model, variables, previous, objects):
    """The memory entry of a frame."""
    return temporal.memorise(model, variables, previous, objects)[0]


@functools.partial(jax.jit, static_argnums=(0, 3))
def widened(model, variables, entry, num_slots):
    """The entry for more slots."""
    return model.apply(variables, entry, num_slots, method='widen')


def entry_shapes(model, variables, previous, objects):
    """Shapes of the memory entry of a frame."""
    return jax.eval_shape(lambda: temporal.memorise(model, variables, previous, objects)[0])
