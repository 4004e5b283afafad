"""What every model shares with training, inference and evaluation (models.md, section 0).

A model has three methods:

- `encode(frames) -> Features`: what depends on the frame alone, once per frame.
- `memorise(frames, features, masks, foreground, objects, time) -> Memory`: the entry of one frame.
- `segment(features, memory, objects) -> Prediction`: the object probabilities of a query frame.

An entry is a memory of one frame. `write` puts it into a memory of fixed shape, in training;
inference keeps the entries and assembles a memory from those its policy names, so that a frame is
encoded once and nothing is copied when the sample of frames changes.
"""

import flax.struct
import jax
import jax.numpy as jnp

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@flax.struct.dataclass
class Masks:
    """Masks of one frame, given or predicted.

    Attributes:
      objects: f32[B, K, H, W], probability of each slot; zeros where the slot is not in use.
      foreground: f32[B, H, W], the class-agnostic map (given: the union of the objects).
      given: bool[B], whether a person gave them; models that treat all frames alike ignore it.
    """

    objects: jax.Array
    foreground: jax.Array
    given: jax.Array


@flax.struct.dataclass
class Prediction:
    """Result of `segment`.

    Attributes:
      probabilities: f32[B, K+1, H, W], background first.
      logits: f32[B, K+1, H, W]; their softmax over axis 1 is `probabilities`.
      foreground_logits: f32[B, H, W] of the class-agnostic map, or None if the model has none.
      affinity: f32[B, T, P, Q], or None: the model has none, or it was never held whole.
    """

    probabilities: jax.Array
    logits: jax.Array
    foreground_logits: jax.Array | None = None
    affinity: jax.Array | None = None

    def masks(self):
        """The prediction as masks to memorise."""
        objects = self.probabilities[:, 1:]
        given = jnp.zeros(objects.shape[:1], bool)
        if self.foreground_logits is None:
            return Masks(objects, objects.sum(axis=1), given)
        return Masks(objects, jax.nn.sigmoid(self.foreground_logits), given)


def given_masks(objects):
    """Masks of a given frame: f32[B, K, H, W], 0 or 1."""
    return Masks(objects, objects.max(axis=1), jnp.ones(objects.shape[:1], bool))


def normalise(frames, dtype=jnp.float32):
    """RGB frames in 0..255 to zero mean and unit variance by ImageNet's statistics.

    Args:
      frames: u8[..., 3].
      dtype: compute dtype of the result.
    """
    mean = 255.0 * jnp.array(MEAN, jnp.float32)
    std = 255.0 * jnp.array(STD, jnp.float32)
    return ((frames.astype(jnp.float32) - mean) / std).astype(dtype)


def write(memory, entry, position):
    """Puts the entry of one frame into a memory.

    Args:
      memory: pytree of arrays [B, T, ...].
      entry: the same pytree with T = 1.
      position: i32 scalar, slot in 0..T-1; may be traced.
    """
    return jax.tree.map(
        lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
            whole, part.astype(whole.dtype), position, axis=1
        ),
        memory,
        entry,
    )


def empty_like(entry, num_frames):
    """A memory with `num_frames` empty slots for entries of this shape (arrays or their shapes)."""
    return jax.tree.map(
        lambda part: jnp.zeros((part.shape[0], num_frames, *part.shape[2:]), part.dtype), entry
    )


def assemble(entries):
    """Joins entries along the axis of frames."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *entries)
