"""What inference compiles: once for each frame size and number of object slots."""

import functools
import math
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vos_jax.compilation import with_products
from vos_jax.config.schema import MemorySpec, num_slots_for
from vos_jax.inference import temporal
from vos_jax.inference.program.vos_loader import video
from vos_jax.models import protocol
from vos_jax.models.layers import fold
from vos_jax.ops import aggregation


def encode(model, variables, frame):
    """Features of u8[1, H, W, 3], or None for a model that does not memorise them."""
    if not model.memorises_features:
        return None
    return model.apply(variables, frame, method='encode')


def memorise(model, variables, previous, used):
    """The memory entry of the last frame (video.Previous)."""
    return temporal.memorise(model, variables, previous, used)[0]


class Inputs(NamedTuple):
    """What a step depends on beside the model; everything is on the device."""

    entries: tuple  # memory entries of one frame each; empty ones fill it up
    previous: video.Previous
    frame: jax.Array  # u8[1, H, W, 3]
    used: jax.Array  # bool[1, K], slots in use
    ids: jax.Array  # u8[256], 0 and then the id of each slot
    position: jax.Array  # i32 scalar, slot of the memory for the frame before
    is_read: jax.Array  # bool scalar, whether it is read at once


def advance(model, variables, inputs):
    """One frame: memorises the one before, segments this one; gives a video.Result."""
    features = model.apply(variables, inputs.frame, method='encode')
    time = inputs.previous.time + 1
    prediction, _, entry, _ = temporal.temporal_step(
        model,
        variables,
        protocol.assemble(inputs.entries),
        inputs.previous,
        features,
        inputs.used,
        position=inputs.position,
        time=time,
        is_read=inputs.is_read,
    )
    masks = prediction.masks()
    return video.Result(
        labels=inputs.ids.at[aggregation.labels_of(prediction.logits)[0]].get(
            mode='promise_in_bounds'
        ),
        probabilities=prediction.probabilities,
        masks=video.Masks(masks.objects, masks.foreground, masks.given),
        features=features if model.memorises_features else None,
        entry=entry,
        time=time,
    )


def _widen(model, variables, entry, num_slots):
    return model.apply(variables, entry, num_slots, method='widen')


def _advance_together(model, variables, inputs):
    """`advance` for several videos in one program; `inputs` has those of each."""
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *inputs)
    results = jax.vmap(lambda one: advance(model, variables, one))(stacked)
    return [jax.tree.map(lambda part, i=i: part[i], results) for i in range(len(inputs))]


class Place(NamedTuple):
    """Where an array is in the packed vector."""

    start: int
    shape: tuple


def pack(leaves):
    """Packs float32 vectors and scalars of a list of arrays into one vector.

    The fewer arguments a program has, the sooner it is under way: a GPU took 3.7 ms to start a
    frame of 3.9 ms with the 512 arrays of a ResNet-50 GIEL, most of them the vectors of its norms
    (docs/measurements/gpu_h100.json).

    Returns:
      A tuple of arrays, the vector first, and a tuple that tells `unpack` for each leaf its Place,
      or None where it is an array of its own.
    """
    parts, whole, places, end = [np.zeros(0, np.float32)], [], [], 0
    for leaf in leaves:
        is_small = leaf.ndim <= 1 and leaf.dtype == np.float32
        places.append(Place(end, leaf.shape) if is_small else None)
        if is_small:
            parts.append(np.ravel(jax.device_get(leaf)))
            end += parts[-1].size
        else:
            whole.append(leaf)
    return (np.concatenate(parts), *whole), tuple(places)


def unpack(arrays, places):
    """The list of leaves that `pack` took; for use in a program, where cutting costs nothing."""
    vector, whole = arrays[0], iter(arrays[1:])
    return [
        next(whole)
        if place is None
        else vector[place.start : place.start + math.prod(place.shape)].reshape(place.shape)
        for place in places
    ]


@functools.lru_cache(maxsize=64)
def _compiled(model, structure, places, precision):
    """The steps of a model, shared by all its programs, so that each is compiled once.

    They take its variables as a tuple: a nest of dictionaries with some hundred arrays takes longer
    to call with than small frames take to compute.
    """

    def jitted(step, **options):
        def call(arrays, *arguments):
            leaves = unpack(arrays, places) if places else arrays
            with with_products(precision):
                return step(model, jax.tree.unflatten(structure, leaves), *arguments)

        return jax.jit(call, **options)

    return types.SimpleNamespace(
        encode=jitted(encode),
        memorise=jitted(memorise),
        advance=jitted(advance),
        widen=jitted(_widen, static_argnums=2),
        advance_together=jitted(_advance_together),
    )


class Program:
    """A model with its weights on a device: a video.Program, where its methods are described.

    Only frames go to the device in each step: the frame before, its masks and the memory lie there,
    and small arguments that come again and again are kept there.
    """

    def __init__(
        self, model, variables, memory=None, device=None, *, packed=None, precision='auto'
    ):
        """
        Args:
          model: module with the methods of `protocol`.
          variables: its variables.
          memory: MemorySpec; default: the paper's.
          device: jax.Device to run on; default: jax's.
          packed: whether small variables are one array; default: on accelerators, where starting a
            program takes about as long as a frame.
          precision: of float32 products, as `config.precision`.
        """
        placed = jax.device_put(fold(variables), device)
        # All arrays are bound to one device: a program whose inputs lie there by chance in one step
        # and are bound to it in the next would be compiled again.
        leaves = jax.tree.leaves(placed) or [jax.device_put(0.0)]
        self.device = device or min(leaves[0].devices(), key=lambda d: d.id)
        self.model = model
        self.variables = variables
        self.memory = memory or MemorySpec()
        leaves, structure = jax.tree.flatten(self.put(placed))
        self._arrays, places = tuple(leaves), None
        if self.device.platform != 'cpu' if packed is None else packed:
            arrays, places = pack(leaves)
            self._arrays = self.put(arrays)
        self.precision = precision
        self._compiled = _compiled(model, structure, places, precision)
        self._slots = functools.lru_cache(maxsize=256)(self._put_slots)
        self._position = functools.lru_cache(maxsize=256)(self._put_position)
        self._empty = functools.lru_cache(maxsize=1)(self._make_empty)

    def slots_for(self, num_objects):
        return num_slots_for(num_objects)

    def num_entries(self, num_frames):
        return self.memory.num_slots_for(num_frames)

    def put(self, arrays):
        return jax.device_put(arrays, self.device)

    def fetch(self, arrays):
        return jax.device_get(arrays)

    def encode(self, frame):
        return self._compiled.encode(self._arrays, frame) if self.model.memorises_features else None

    def advance(self, state, memory, frame):
        return self._compiled.advance(self._arrays, self._inputs(state, memory, frame))

    def advance_together(self, states, memories, frames):
        """`advance` for several videos, in one program; all arrays have equal shapes."""
        inputs = tuple(map(self._inputs, states, memories, frames))
        return self._compiled.advance_together(self._arrays, inputs)

    def memorise(self, state):
        used, _ = self._slots(state.ids, state.slots)
        return self._compiled.memorise(self._arrays, state.previous, used)

    def empty(self, state):
        """An empty entry; made once for each frame size and number of slots."""
        return self._empty(state.previous.frame.shape[1:3], state.slots)

    def widen(self, entry, slots):
        return self._compiled.widen(self._arrays, entry, slots)

    def previous_shapes(self, size, slots):
        """Shapes of the video.Previous of a video with frames of a size (H, W)."""
        like = jax.ShapeDtypeStruct
        frame = like((1, *size, 3), np.uint8)
        features = jax.eval_shape(self._compiled.encode, self._arrays, frame)
        masks = video.Masks(
            like((1, slots, *size), np.float32), like((1, *size), np.float32), like((1,), bool)
        )
        return video.Previous(frame, features, masks, like((1,), np.int32))

    def entry_shapes(self, size, slots):
        """Shapes of the memory entry of a frame."""
        used = jax.ShapeDtypeStruct((1, slots), bool)
        previous = self.previous_shapes(size, slots)
        return jax.eval_shape(self._compiled.memorise, self._arrays, previous, used)

    def _inputs(self, state, memory, frame):
        used, ids = self._slots(state.ids, state.slots)
        where = self._position(memory.position, memory.is_read)
        return Inputs(memory.entries, state.previous, frame, used, ids, *where)

    def _put_slots(self, ids, slots):
        table = np.zeros(256, np.uint8)
        table[1 : len(ids) + 1] = ids
        return self.put(((np.arange(slots) < len(ids))[None], table))

    def _put_position(self, position, is_read):
        return self.put((np.int32(position), np.bool_(is_read)))

    def _make_empty(self, size, slots):
        shapes = self.entry_shapes(size, slots)
        return self.put(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes))
