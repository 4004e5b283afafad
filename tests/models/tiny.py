"""A narrow GIEL and clips of noise: what the tests of models, inference and training run on."""

import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from tests.squares import Square, draw_labels
from vos_jax.models import protocol
from vos_jax.models.giel.model import GIEL
from vos_jax.models.giel.spec import GIELSpec
from vos_jax.models.resnet import EncoderSpec

SPEC = GIELSpec(
    encoder=EncoderSpec(
        block='basic',
        stem='small',
        stem_width=8,
        depths=(1, 1, 1),
        widths=(8, 8, 16),
        strides=(2, 2, 1),
    ),
    key_channels=8,
    value_channels=8,
    decoder_channels=8,
    coarse_channels=8,
)
STRIDE = 8
# No multiple of the stride: 3 x 4 cells, of which 2 x 3 have their centre in the image.
SIZE = (19, 27)


def giel(**changes):
    """The tiny model with other settings."""
    return GIEL(dataclasses.replace(SPEC, **changes))


def variables_of(model):
    """Variables that follow from their names, so models that share a part share its numbers.

    All biases are non-zero, so that nothing is right only because a part does nothing yet.
    """
    frame = jax.ShapeDtypeStruct((1, 2 * STRIDE, 2 * STRIDE, 3), jnp.uint8)
    masks = jax.ShapeDtypeStruct((1, 1, *frame.shape[1:3]), jnp.float32)
    objects = jax.ShapeDtypeStruct((1, 1), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(0), frame, masks, objects)
    return fill(shapes)


def fill(shapes):
    """Numbers for a tree of shapes: He-scaled kernels, scales and variances about 1."""

    def numbers(path, leaf):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        noise = rng.standard_normal(leaf.shape)
        name = path[-1].key
        if name == 'kernel':
            noise *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif name in ('scale', 'var'):
            noise = np.exp(0.1 * noise)
        else:
            noise *= 0.1
        return noise.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(numbers, shapes)


def clip(batch=1, length=4, size=SIZE, num_slots=3, num_objects=2, seed=0):
    """Frames of noise with a moving rectangle for each object, as a training batch."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (batch, length, *size, 3), dtype=np.uint8)
    height, width = size[0] // 3, size[1] // 4
    squares = [
        Square(slot + 1, 1 + slot, 1 + slot * (width + 1), height, width, down=1, right=1)
        for slot in range(num_objects)
    ]
    labels = np.repeat(draw_labels(squares, length, size)[None], batch, axis=0)
    objects = np.tile(np.arange(num_slots) < num_objects, (batch, 1))
    return {'frames': frames, 'labels': labels, 'objects': objects}


def masks_of(labels, num_slots):
    """f32[..., K, H, W] from slot labels."""
    slots = np.arange(1, num_slots + 1)[:, None, None]
    return (labels[..., None, :, :] == slots).astype(np.float32)


def softmax(x, axis):
    """In float64."""
    x = np.asarray(x, np.float64)
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


CLIP = clip()
FRAMES, OBJECTS = CLIP['frames'][0], CLIP['objects'][0]  # [T, H, W, 3]; two of three slots
GRID = (3, 4)  # cells of a padded frame
INSIDE = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool).ravel()


def soft_masks(num_slots=3, num_frames=2):
    """Masks as a prediction gives them: blurred, the class-agnostic map a little different."""
    objects = 0.1 + 0.7 * masks_of(CLIP['labels'][0, :num_frames], num_slots)
    objects[:, 2:] = 0
    foreground = (0.9 * objects.sum(axis=1)) ** 2
    given = np.zeros(num_frames, bool)
    return protocol.Masks(objects.astype(np.float32), foreground.astype(np.float32), given)


def sigmoid(x):
    """In float64."""
    return np.exp(-np.logaddexp(0, -np.asarray(x, np.float64)))


def object_probabilities(prediction):
    """p of each slot before the slots are merged: a slot's logit is log p - log (1 - p)."""
    return sigmoid(prediction.logits[0, 1:])


@functools.cache
def runner(**changes):
    """A tiny model with other settings, its variables and its compiled methods."""
    return Runner(giel(**changes))


class Runner:
    """Compiled methods of a model with the variables of `variables_of`; NumPy in and out."""

    def __init__(self, model):
        self.model = model
        self.variables = variables_of(model)
        self._encode = self._compiled('encode')
        self._memorise = self._compiled('memorise')
        self._segment = self._compiled('segment')
        # All else is unused and therefore not compiled.
        self._support_key = self._compiled('memorise', lambda entry: entry.keys)
        self._affinity = self._compiled('segment', lambda prediction: prediction.affinity)

    def _compiled(self, method, part=lambda result: result):
        return jax.jit(lambda *arguments: part(self.model.apply(*arguments, method=method)))

    def encode(self, frame):
        """Features of u8[H, W, 3]."""
        return self._encode(self.variables, frame[None])

    def memory(self, frames, masks, objects, num_empty=0):
        """Memory of u8[T, H, W, 3] with `protocol.Masks` of leading axis T; times 0..T-1.

        The frames go through as a batch and become one memory.
        """
        times = np.arange(len(frames), dtype=np.int32)
        used = np.repeat(objects[None], len(frames), axis=0)
        entries = self._memorise(self.variables, frames, None, masks, used, times)
        empty = [(0, num_empty)]

        def joined(a):
            a = np.moveaxis(np.asarray(a), 0, 1)
            return np.pad(a, [(0, 0), *empty, *[(0, 0)] * (a.ndim - 2)])

        return jax.tree.map(joined, entries)

    def support_keys(self, frames, masks, objects):
        """[T, P, Ck], the keys of `memory` alone."""
        times = np.arange(len(frames), dtype=np.int32)
        used = np.repeat(objects[None], len(frames), axis=0)
        keys = self._support_key(self.variables, frames, None, masks, used, times)
        return np.asarray(keys)[:, 0]

    def segment(self, features, memory, objects, time=2, variables=None):
        """Prediction of one frame."""
        return jax.tree.map(
            np.asarray,
            self._segment(variables or self.variables, features, memory, objects[None], _at(time)),
        )

    def affinity(self, features, memory, objects, time=2, variables=None):
        """f32[T, P, Q], the affinity of `segment` alone."""
        variables = variables or self.variables
        return np.asarray(self._affinity(variables, features, memory, objects[None], _at(time)))[0]


def _at(time):
    return np.full(1, time, np.int32)
