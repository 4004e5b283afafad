"""What every model shares with training, inference and evaluation.

`Model` is the contract: `encode` once per frame, `memorise` the entry of a frame, `segment` a frame
by a memory, `widen` an entry for more objects. Below are the structures that pass between them.

An entry is a memory of one frame. `write` puts it into a memory of fixed shape, in training;
inference keeps the entries and assembles a memory from those its policy names, so that a frame is
encoded once and nothing is copied when the sample of frames changes.
"""

import typing

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


class Memory(typing.Protocol):
    """Memory of T frames, or the entry of one (T = 1): a pytree of arrays [B, T, ...].

    Attributes:
      valid: bool[B, T, ...], False in empty slots; training and inference hide entries by it.
    """

    valid: jax.Array

    def replace(self, **changes) -> 'Memory':
        """With other arrays, as of flax.struct.dataclass."""


class Model(typing.Protocol):
    """A Flax module: its methods are called through `apply(variables, ..., method='encode')`.

    Its constructor takes its spec, and the dtype to compute in. `__call__` is `use_all`.

    Attributes:
      spec: frozen dataclass of its settings (`models/NAME/spec.py`).
      stride: pixels per memory cell and side; training asks for crops of whole cells.
      memorises_features: whether `memorise` needs the features of its frame; else they are not
        kept, and `features` may be None.
      encoders: parts of the parameters that the weights of a pre-trained encoder start.
    """

    spec: typing.Any
    stride: int
    memorises_features: bool
    encoders: tuple[str, ...]

    def encode(self, frames, train=False) -> typing.Any:
        """What depends on frames alone.

        Args:
          frames: u8[B, H, W, 3], of any size.
          train: whether norms use batch statistics, and dropout is active.

        Returns:
          Features: a pytree of arrays with leading axis B.
        """

    def memorise(self, frames, features, masks, objects, time, train=False) -> Memory:
        """The memory entry of a frame.

        Args:
          frames: u8[B, H, W, 3].
          features: of these frames, where `memorises_features`.
          masks: Masks, given or predicted.
          objects: bool[B, K], slots in use.
          time: i32[B], frame numbers.
          train: as for `encode`.

        Returns:
          Memory with T = 1.
        """

    def segment(self, features, memory, objects, time, train=False) -> Prediction:
        """Segments a frame.

        Args:
          features: of the frame.
          memory: Memory; at least one slot is in use.
          objects: bool[B, K].
          time: i32[B], number of the frame.
          train: as for `encode`; a gradient will be asked for.
        """

    def widen(self, entry, num_slots) -> Memory:
        """The entry of a frame for more object slots, for objects that appear later.

        Args:
          entry: Memory with T = 1 and K slots.
          num_slots: K' > K.
        """


@typing.runtime_checkable
class Scalable(typing.Protocol):
    """A model that can see frames at several scales (`inference.scales`)."""

    def at_scale(self, scale, max_edge) -> Model:
        """The same model, which sees frames enlarged by `scale`, the longer edge up to a length.

        Args:
          scale: factor on the frame's size.
          max_edge: pixels at scale 1; None: as its spec says.
        """


def use_all(model, frames, masks, objects):
    """Uses every parameter, for initialisation: memorises and segments the same frames."""
    time = jnp.zeros(frames.shape[:1], jnp.int32)
    features = model.encode(frames)
    memory = model.memorise(frames, features, given_masks(masks), objects, time)
    return model.segment(features, memory, objects, time)


def given_masks(objects):
    """Masks of a given frame: f32[B, K, H, W], 0 or 1."""
    return Masks(objects, objects.max(axis=1), jnp.ones(objects.shape[:1], bool))


def normalise(frames, dtype=jnp.float32):
    """RGB frames u8[..., 3] to zero mean and unit variance by ImageNet's statistics."""
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
