"""The size at which a model sees frames, and test-time augmentation: as one model.

`Resized` is a model that sees frames enlarged or shrunk. `Views` are several, at other scales or
mirrored, of the same variables. Each has features and a memory of its own; their probabilities are
averaged, and the result is what all of them memorise.
"""

import dataclasses
import functools
import operator
import typing

import flax.struct
import jax
import jax.numpy as jnp

from vos_jax.models import protocol
from vos_jax.ops import aggregation, resize

# Of the released CFBI code: the longest edge at scale 1, where there are other scales too.
SEVERAL_EDGE = 800
MOST_ENLARGED = 2.0  # beyond that there is little more to see, at any price
TINY = 1e-30  # of a probability; its logarithm is finite


@flax.struct.dataclass
class Sized:
    """Features of resized frames, and the frames' own (H, W)."""

    inner: typing.Any
    size: tuple = flax.struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class Resized:
    """Has the methods of `protocol.Model`, called through `apply` like those of a Flax module.

    Attributes:
      model: module that sees the resized frames.
      scale: factor on their size, beside the limits.
      enlarge_to: shorter frames are enlarged to this many pixels at scale 1, at most twice.
      max_edge: longer ones are shrunk to this many pixels at scale 1; None: none are.
    """

    model: typing.Any
    scale: float = 1.0
    enlarge_to: int = 0
    max_edge: int | None = None

    @property
    def memorises_features(self):
        """As of the model."""
        return self.model.memorises_features

    @property
    def stride(self):
        """As of the model."""
        return self.model.stride

    def apply(self, variables, *args, method, train=False):
        """Calls a method of the model; there is nothing to train."""
        if train:
            raise ValueError('views are for inference; train the model itself')
        return getattr(self, method)(functools.partial(self.model.apply, variables), *args)

    def encode(self, apply, frames):
        """Features of u8[B, H, W, 3]."""
        return Sized(apply(self._frames(frames), method='encode'), frames.shape[1:3])

    def memorise(self, apply, frames, features, masks, *rest):
        """Memory with T = 1; see the model's."""
        size = self.network_size(frames.shape[1:3])
        objects, foreground = (_resize(x, size) for x in (masks.objects, masks.foreground))
        masks = protocol.Masks(objects, foreground, masks.given)
        inner = None if features is None else features.inner
        return apply(self._frames(frames), inner, masks, *rest, method='memorise')

    def widen(self, apply, *args):
        """The entry of a frame for more object slots."""
        return apply(*args, method='widen')

    def segment(self, apply, features, *args):
        """protocol.Prediction of the frames' own size."""
        found = apply(features.inner, *args, method='segment')
        logits, foreground = _resize(found.logits, features.size), found.foreground_logits
        if foreground is not None:
            foreground = _resize(foreground, features.size)
        return protocol.Prediction(aggregation.probabilities_of(logits), logits, foreground)

    def network_size(self, size):
        """(H, W) at which frames of a size are seen.

        >>> Resized(None, enlarge_to=320).network_size((240, 428))
        (320, 571)
        >>> Resized(None, enlarge_to=320).network_size((48, 64))
        (96, 128)
        """
        factor = self.scale * min(max(self.enlarge_to / min(size), 1.0), MOST_ENLARGED)
        if self.max_edge:
            factor = min(factor, self.scale * self.max_edge / max(size))
        return tuple(max(round(side * factor), 1) for side in size)

    def _frames(self, frames):
        shape = (frames.shape[0], *self.network_size(frames.shape[1:3]), 3)
        if shape == frames.shape:
            return frames
        # What shrinks needs a filter as wide as that.
        if shape[1] < frames.shape[1]:
            return jax.image.resize(frames.astype(jnp.float32), shape, 'cubic').clip(0.0, 255.0)
        resized = resize.interpolate(frames.astype(jnp.float32), shape[1:3], (1, 2), resize.cubic)
        return resized.clip(0.0, 255.0)  # beyond them, cubic filters ring


def _resize(maps, size):
    """Maps f32[..., H, W] at another size; they are smooth enough to be shrunk so."""
    return resize.interpolate(maps, size, (-2, -1), resize.linear)


@flax.struct.dataclass
class Features:
    """Features by scale; along the batch axis the frames as they are, then mirrored."""

    scales: tuple


@flax.struct.dataclass
class Memory:
    """Memories by scale; also the entry of one frame."""

    scales: tuple  # memories of the model
    valid: jax.Array  # bool[B, T], False in empty slots


@dataclasses.dataclass(frozen=True)
class Views:
    """Has the methods of `protocol.Model`, called through `apply` like those of a Flax module."""

    models: tuple  # one module for each scale, of the same variables
    flip: bool = False  # whether each scale is seen mirrored too

    @property
    def memorises_features(self):
        """As of the model."""
        return self.models[0].memorises_features

    @property
    def stride(self):
        """As of the model."""
        return self.models[0].stride

    def apply(self, variables, *args, method, train=False):
        """Calls a method of the model; there is nothing to train."""
        if train:
            raise ValueError('views are for inference; train the model itself')
        return getattr(self, method)(variables, *args)

    def encode(self, variables, frames):
        """Features of u8[B, H, W, 3]."""
        frames = self._doubled(frames, axis=2)
        return Features(
            tuple(model.apply(variables, frames, method='encode') for model in self.models)
        )

    def memorise(self, variables, frames, features, masks, objects, time):
        """Memory with T = 1; see the model's."""
        frames = self._doubled(frames, axis=2)
        masks = protocol.Masks(
            self._doubled(masks.objects, axis=3),
            self._doubled(masks.foreground, axis=2),
            self._doubled(masks.given),
        )
        rest = (masks, self._doubled(objects), self._doubled(time))
        scales = features.scales if features else [None] * len(self.models)
        entries = tuple(
            model.apply(variables, frames, seen, *rest, method='memorise')
            for model, seen in zip(self.models, scales, strict=True)
        )
        return Memory(entries, jnp.ones((objects.shape[0], 1), bool))

    def widen(self, variables, entry, num_slots):
        """The entry of a frame for more object slots."""
        scales = tuple(
            model.apply(variables, part, num_slots, method='widen')
            for model, part in zip(self.models, entry.scales, strict=True)
        )
        return entry.replace(scales=scales)

    def segment(self, variables, features, memory, objects, time):
        """protocol.Prediction with the mean probabilities; its logits are their logarithms."""
        doubled = (self._doubled(objects), self._doubled(time))
        results = []
        for model, seen, part in zip(self.models, features.scales, memory.scales, strict=True):
            valid = self._doubled(memory.valid)
            valid = valid.reshape(valid.shape + (1,) * (part.valid.ndim - valid.ndim))
            part = part.replace(valid=part.valid & valid)
            results.append(model.apply(variables, seen, part, *doubled, method='segment'))
        probabilities = self._mean([result.probabilities for result in results])
        foreground = None
        if results[0].foreground_logits is not None:
            mean = self._mean([jax.nn.sigmoid(result.foreground_logits) for result in results])
            foreground = jnp.log(jnp.maximum(mean, TINY)) - jnp.log(jnp.maximum(1.0 - mean, TINY))
        logits = jnp.log(jnp.maximum(probabilities, TINY))
        return protocol.Prediction(probabilities, logits, foreground)

    def _doubled(self, x, axis=None):
        """Along the batch: x, then x mirrored along `axis` (None: the same again)."""
        if not self.flip:
            return x
        return jnp.concatenate([x, x if axis is None else jnp.flip(x, axis)])

    def _mean(self, parts) -> jax.Array:
        """Mean over scales and mirrors of arrays [2 B, ..., W]."""
        total = functools.reduce(operator.add, parts) / len(parts)
        if not self.flip:
            return total
        plain, mirrored = jnp.split(total, 2)
        return 0.5 * (plain + jnp.flip(mirrored, -1))


def build(model, spec):
    """A model as `config.inference` wants it seen.

    Args:
      model: Flax module with the methods of `protocol.Model`.
      spec: InferenceSpec, of which all but the memory counts.

    Returns:
      The model itself where there is one view of the frame as it is, `Resized`, or `Views`.

    Models with a rule of their own for their size (CFBI's, as released) follow it in all but
    `enlarge_to`.
    """
    scales = spec.scales
    edge = spec.max_edge or (None if scales == (1.0,) else SEVERAL_EDGE)
    if isinstance(model, protocol.Scalable):
        if edge or scales != (1.0,):
            models = [model.at_scale(scale, edge) for scale in scales]
        else:
            models = [model]
        if spec.enlarge_to:
            models = [Resized(one, enlarge_to=spec.enlarge_to) for one in models]
    elif edge or spec.enlarge_to or scales != (1.0,):
        models = [Resized(model, scale, spec.enlarge_to, edge) for scale in scales]
    else:
        models = [model]
    return models[0] if len(models) == 1 and not spec.flip else Views(tuple(models), spec.flip)
