"""Test-time augmentation: a model that sees frames at several scales, and mirrored, as one model.

The views share the variables. Each has features and a memory of its own; their probabilities are
averaged, and the result is what all of them memorise.
"""

import dataclasses
import functools
import operator

import flax.struct
import jax
import jax.numpy as jnp

from vos_jax.errors import InputError
from vos_jax.models import protocol

# Of the released CFBI code: the longest edge at scale 1, where there are other scales too.
SEVERAL_EDGE = 800
TINY = 1e-30  # of a probability; its logarithm is finite


@flax.struct.dataclass
class Features:
    """Features by scale; along the batch axis the frames as they are, then mirrored."""

    scales: tuple


@flax.struct.dataclass
class Memory:
    """Memories by scale; also the entry of one frame.

    Attributes:
      scales: memories of the model.
      valid: bool[B, T], False in empty slots.
    """

    scales: tuple
    valid: jax.Array


@dataclasses.dataclass(frozen=True)
class Views:
    """Has the methods of `protocol.Model`, called through `apply` like those of a Flax module.

    Attributes:
      models: one module for each scale, of the same variables.
      flip: whether each scale is seen mirrored too.
    """

    models: tuple
    flip: bool = False

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
        return Features(self._each('encode', variables, frames))

    def memorise(self, variables, frames, features, masks, objects, time):
        """Memory with T = 1; see the model's."""
        frames = self._doubled(frames, axis=2)
        masks = protocol.Masks(
            self._doubled(masks.objects, axis=3),
            self._doubled(masks.foreground, axis=2),
            self._doubled(masks.given),
        )
        rest = (masks, self._doubled(objects), self._doubled(time))
        entries = tuple(
            model.apply(variables, frames, seen, *rest, method='memorise')
            for model, seen in zip(self.models, features.scales, strict=True)
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

    def _each(self, method, variables, *args):
        return tuple(model.apply(variables, *args, method=method) for model in self.models)

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
      spec: InferenceSpec, of which scales, flip and max_edge count.

    Returns:
      The model itself where there is one view of the frame as it is, or `Views`.

    Raises:
      InputError: for several scales of a model that has no setting for it.
    """
    scales = spec.scales
    if scales == (1.0,) and not spec.max_edge:
        models = (model,)
    elif not isinstance(model, protocol.Scalable):
        raise InputError(
            f"'inference.scales' is {scales}, but {type(model).__name__} sees frames at their "
            'own size; take (1.0,)'
        )
    else:
        edge = spec.max_edge or (None if scales == (1.0,) else SEVERAL_EDGE)
        models = tuple(model.at_scale(scale, edge) for scale in scales)
    return models[0] if len(models) == 1 and not spec.flip else Views(models, spec.flip)
