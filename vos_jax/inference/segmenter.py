"""Segmenting a video frame by frame: the Python API, and what `evaluate.py` itself runs."""

import functools
from pathlib import Path

import jax
import numpy as np

from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.inference import memory_policy, rollout, views
from vos_jax.models import contract, registry
from vos_jax.ops import aggregation

PRETRAINED = Path(__file__).resolve().parents[2] / 'pretrained'
VOID = 255


def num_slots_for(num_objects):
    """Slots compiled for so many objects: 1, 3, 6, then multiples of 6.

    >>> [num_slots_for(n) for n in (1, 2, 3, 4, 7)]
    [1, 3, 3, 6, 12]
    """
    for slots in (1, 3, 6):
        if num_objects <= slots:
            return slots
    return -(-num_objects // 6) * 6


class Segmenter:
    """Segments one video after the other, one frame at a time, in constant memory.

    >>> import numpy as np
    >>> segmenter = Segmenter.from_pretrained('giel_small')  # doctest: +SKIP
    >>> labels = segmenter.start(first_frame, first_masks)  # doctest: +SKIP
    >>> labels = segmenter.step(next_frame)  # doctest: +SKIP
    """

    def __init__(self, model, variables, *, memory=None, device=None):
        """
        Args:
          model: module with the methods of `contract`.
          variables: its variables.
          memory: memory_policy.MemorySettings; default: the paper's.
          device: jax.Device to run on; default: jax's.
        """
        self._model = model
        self._variables = jax.device_put(variables, device)
        self._settings = memory or memory_policy.MemorySettings()
        self._device = device
        self._entries = {}
        self._previous = None
        self._ids = []
        self._empty = (None, None)

    @classmethod
    def from_pretrained(cls, name, *, memory=None, device=None):
        """Loads weights of one file.

        Args:
          name: name of weights that come with the project ('giel_small'), or path of a file that
            `weights.export_weights` wrote.
          memory, device: as for the constructor; default memory: that of the file's config.

        Raises:
          InputError: where there is no such file, or it holds something else.
        """
        path = Path(name)
        if not path.suffix and not path.exists():
            path = PRETRAINED / f'{name}.npz'
        loaded = weights.load_weights(path)
        return cls.from_config(loaded.config, loaded.variables, memory=memory, device=device)

    @classmethod
    def from_config(cls, config, variables, *, memory=None, device=None):
        """Builds the model of a run's config around its variables.

        Args:
          config: the run's config: `model` and, optionally, `inference` (`memory`, and `scales`,
            `flip` and `max_edge` of `views.build`).
          variables: variables of its model.
          memory, device: as for the constructor.
        """
        settings = dict(config.get('inference', {}))
        own_memory = settings.pop('memory', {})
        if memory is None:
            memory = memory_policy.MemorySettings(**dict(own_memory))
        model = views.build(registry.build(config['model']), **settings)
        return cls(model, variables, memory=memory, device=device)

    @property
    def ids(self):
        """Ids of the objects known so far, in the order of their slots."""
        return tuple(self._ids)

    def start(self, frame, masks, *, num_objects=None):
        """Begins a video.

        Args:
          frame: u8[H, W, 3], RGB.
          masks: u8[H, W], object ids; 0 is background, 255 (void) belongs to no object.
          num_objects: objects that the video will have in all, where that is known: room is made
            for them at once.

        Returns:
          u8[H, W]: the given ids.

        Raises:
          InputError: for a frame or masks of a wrong form, or masks without an object.
        """
        frame = _checked_frame(frame)
        masks = _checked_masks(masks, frame.shape[:2])
        ids = _ids_of(masks)
        if not ids:
            raise InputError('the first masks show no object; give at least one pixel an id 1..254')
        self._entries, self._ids, self._time, self._given = {}, ids, 0, [0]
        self._slots = num_slots_for(max(len(ids), num_objects or 0))
        height, width = masks.shape
        empty = contract.Masks(
            np.zeros((1, self._slots, height, width), np.float32),
            np.zeros((1, height, width), np.float32),
            np.zeros(1, bool),
        )
        features = None
        if self._model.memorises_features:
            features = _encode(self._model, self._variables, frame[None])
        time = np.zeros(1, np.int32)
        self._previous = rollout.Previous(frame[None], features, self._over(empty, masks), time)
        self._labels = np.where(masks == VOID, 0, masks).astype(np.uint8)
        return self._labels

    def step(self, frame, *, probabilities=False):
        """Segments the next frame.

        Args:
          frame: u8[H, W, 3], of the size of the first.
          probabilities: whether these are wanted too.

        Returns:
          u8[H, W] ids, or (ids, f32[n + 1, H, W]): background, then the objects in the order of
          `ids`.

        Raises:
          InputError: before `start`, or for a frame of another form or size.
        """
        self._check_started()
        frame = _checked_frame(frame)
        if frame.shape != self._previous.frame.shape[1:]:
            raise InputError(
                f'frame of size {frame.shape[:2]} in a video of size '
                f'{self._previous.frame.shape[1:3]}; scale the frames to one size'
            )
        now = self._time + 1
        entries, position, is_read = self._memory_for(now)
        result = _advance(
            self._model,
            self._variables,
            entries,
            self._previous,
            frame[None],
            self._used(),
            np.int32(position),
            np.bool_(is_read),
            np.full(1, now, np.int32),
        )
        self._entries[self._time] = result['entry']
        self._time = now
        self._previous = rollout.Previous(
            frame[None], result['features'], result['masks'], np.full(1, now, np.int32)
        )
        self._thin()
        # Fetched whole: a slice on the device is a program of its own for each number of objects.
        self._labels = self._to_ids(np.asarray(result['labels'])[0])
        if not probabilities:
            return self._labels
        return self._labels, np.asarray(result['probabilities'])[0, : len(self._ids) + 1]

    def add_objects(self, masks):
        """Writes given masks over the result of the current frame: new objects, or corrections.

        Args:
          masks: u8[H, W] ids; 0 (and 255) leave the result as it is.

        Returns:
          u8[H, W] ids of the merged result; the frame enters the memory with it.
        """
        self._check_started()
        masks = _checked_masks(masks, self._labels.shape)
        ids = self._ids + [number for number in _ids_of(masks) if number not in self._ids]
        needed = num_slots_for(len(ids))
        if needed > self._slots:
            self._widen(needed)
        self._ids = ids
        self._given = sorted({*self._given, self._time})
        merged = self._over(self._previous.masks, masks)
        self._previous = self._previous.replace(masks=merged)
        is_given = (masks > 0) & (masks != VOID)
        self._labels = np.where(is_given, masks, self._labels).astype(np.uint8)
        return self._labels

    def state(self):
        """Everything that the next step depends on, for `restore`; taken without copying.

        Returns:
          Dict of arrays and numbers by name; `previous` is a list of arrays, and `entries` a dict
          of lists of arrays by frame number. An entry of a frame never changes.
        """
        self._check_started()
        return {
            'time': self._time,
            'slots': self._slots,
            'given': np.array(self._given, np.int32),
            'ids': np.array(self._ids, np.int32),
            'labels': self._labels,
            'previous': jax.tree.leaves(self._previous),
            'entries': {time: jax.tree.leaves(entry) for time, entry in self._entries.items()},
        }

    def restore(self, state):
        """Goes on from a `state` of a segmenter with the same model and weights.

        Args:
          state: as `state` gave it, or read back from a file by NumPy.
        """
        self._time, self._slots = int(state['time']), int(state['slots'])
        self._ids, self._labels = np.asarray(state['ids']).tolist(), np.asarray(state['labels'])
        self._given = np.asarray(state['given']).tolist()
        frame, *_ = state['previous']
        features = None
        if self._model.memorises_features:
            features = jax.eval_shape(_encode, self._model, self._variables, frame)
        shape = rollout.Previous(frame, features, contract.Masks(0.0, 0.0, 0.0), 0)
        self._previous = self._rebuilt(shape, state['previous'])
        shape = _entry_shapes(self._model, self._variables, self._previous, self._used())
        self._entries = {
            int(time): self._rebuilt(shape, leaves) for time, leaves in state['entries'].items()
        }

    def _rebuilt(self, shape, leaves):
        """Arrays in a structure. NumPy's files keep the bits of bfloat16, but not its name."""
        wanted, structure = jax.tree.flatten(shape)
        leaves = [
            leaf.view(like.dtype) if leaf.dtype.kind == 'V' else leaf
            for leaf, like in zip(map(np.asarray, leaves), wanted, strict=True)
        ]
        return jax.device_put(jax.tree.unflatten(structure, leaves), self._device)

    def _memory_for(self, now):
        """Entries for the memory; the slot of the previous frame, and whether it is read."""
        chosen = memory_policy.select(self._settings, [*self._entries, now - 1], now, self._given)
        old = [time for time in chosen if time != now - 1]
        empty = self._empty_entry()
        entries = [self._entries[time] for time in old]
        entries += [empty] * (self._settings.num_slots_for(len(old) + 1) - len(old))
        return tuple(entries), len(old), now - 1 in chosen

    def _empty_entry(self):
        """An empty slot of the memory; made once for each frame size and number of slots."""
        key = (*self._previous.frame.shape, self._slots)
        if self._empty[0] != key:
            shapes = _entry_shapes(self._model, self._variables, self._previous, self._used())
            zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
            self._empty = (key, jax.device_put(zeros, self._device))
        return self._empty[1]

    def _thin(self):
        kept = memory_policy.keep(self._settings, [*self._entries], self._given)
        self._entries = {time: self._entries[time] for time in kept}

    def _used(self):
        return (np.arange(self._slots) < len(self._ids))[None]

    def _over(self, masks, given):
        """Given ids written over masks of the slots."""
        objects = np.array(masks.objects)
        foreground = np.array(masks.foreground)
        is_given = (given > 0) & (given != VOID)
        for slot, number in enumerate(self._ids):
            objects[0, slot] = np.where(is_given, given == number, objects[0, slot])
        foreground[0][is_given] = 1.0
        return contract.Masks(objects, foreground, np.ones(1, bool))

    def _widen(self, num_slots):
        missing = num_slots - self._slots
        for time, entry in self._entries.items():
            self._entries[time] = _widened(self._model, self._variables, entry, num_slots)
        masks = self._previous.masks
        objects = np.pad(np.asarray(masks.objects), ((0, 0), (0, missing), (0, 0), (0, 0)))
        self._previous = self._previous.replace(masks=masks.replace(objects=objects))
        self._slots = num_slots

    def _to_ids(self, slots):
        table = np.zeros(256, np.uint8)
        table[1 : len(self._ids) + 1] = self._ids
        return table[slots]

    def _check_started(self):
        if self._previous is None:
            raise InputError('no video has begun; call start(frame, masks) first')


@functools.partial(jax.jit, static_argnums=0)
def _encode(model, variables, frame):
    return model.apply(variables, frame, method='encode')


@functools.partial(jax.jit, static_argnums=0)
def _advance(model, variables, entries, previous, frame, objects, position, is_read, time):
    """One frame: everything on the device, compiled once per frame size and number of slots."""
    memory = contract.assemble(entries)
    features = model.apply(variables, frame, method='encode')
    prediction, _, entry, _ = rollout.temporal_step(
        model, variables, memory, previous, features, objects, position, time, is_read=is_read
    )
    return {
        'labels': aggregation.labels_of(prediction.logits),
        'probabilities': prediction.probabilities,
        'masks': prediction.masks(),
        'features': features if model.memorises_features else None,
        'entry': entry,
    }


@functools.partial(jax.jit, static_argnums=(0, 3))
def _widened(model, variables, entry, num_slots):
    return model.apply(variables, entry, num_slots, method='widen')


def _entry_shapes(model, variables, previous, objects):
    return jax.eval_shape(lambda: rollout.memorise(model, variables, previous, objects)[0])


def _checked_frame(frame):
    # A copy: it is memorised at the next step, when the caller's buffer may hold another frame.
    frame = np.array(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(
            f'frame of {frame.dtype}{list(frame.shape)}; needed: uint8 [height, width, 3], RGB'
        )
    return frame


def _checked_masks(masks, size):
    masks = np.asarray(masks)
    if masks.dtype != np.uint8 or masks.shape != tuple(size):
        raise InputError(
            f'masks of {masks.dtype}{list(masks.shape)}; needed: uint8 {list(size)}, object ids'
        )
    return masks


def _ids_of(masks):
    return [int(number) for number in np.unique(masks) if number not in (0, VOID)]
