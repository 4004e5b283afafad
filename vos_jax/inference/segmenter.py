"""Segmenting a video frame by frame: the Python API, and what `evaluate.py` itself runs."""

import functools

import jax
import numpy as np

from vos_jax import weights
from vos_jax.config.schema import Config
from vos_jax.errors import InputError
from vos_jax.inference import inputs, memory_policy, states, steps, temporal, views
from vos_jax.models import protocol, registry
from vos_jax.models.shapes import check_variables
from vos_jax.storage import checksum
from vos_jax.storage.palette import VOID


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
        self.model = model
        placed = jax.device_put(variables, device)
        # All arrays are bound to one device: a program whose inputs lie there by chance in one step
        # and are bound to it in the next would be compiled again.
        leaves = jax.tree.leaves(placed) or [jax.device_put(0.0)]
        self._device = device or min(leaves[0].devices(), key=lambda d: d.id)
        self.variables = jax.device_put(placed, self._device)
        self.memory = memory or memory_policy.MemorySettings()
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
        loaded = weights.load_weights(weights.find(name))
        return cls.from_config(
            loaded.config, loaded.variables, memory=memory, device=device, where=str(name)
        )

    @classmethod
    def from_config(cls, config, variables, *, memory=None, device=None, where='the variables'):
        """Builds the model of a run's config around its variables.

        Args:
          config: Config; or a mapping for `registry.read_config`, of which `model` and `inference`
            count.
          variables: variables of its model.
          memory, device: as for the constructor.
          where: what the variables were read from, for the message.

        Raises:
          InputError: for variables that are not those of the model.
        """
        if not isinstance(config, Config):
            config = registry.read_config(config)
        model = registry.build(config.model)
        check_variables(model, variables, where)
        model = views.build(model, config.inference)
        memory = memory or config.inference.memory
        return cls(model, variables, memory=memory, device=device)

    def sibling(self):
        """A segmenter with the same model, weights and settings, for another video beside this."""
        return type(self)(self.model, self.variables, memory=self.memory, device=self._device)

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
        frame = inputs.checked_frame(frame)
        masks = inputs.checked_masks(masks, frame.shape[:2])
        ids = inputs.ids_of(masks)
        if not ids:
            raise InputError('the first masks show no object; give at least one pixel an id 1..254')
        self._entries, self._ids, self._time, self._given = {}, ids, 0, [0]
        self._slots = num_slots_for(max(len(ids), num_objects or 0))
        height, width = masks.shape
        empty = protocol.Masks(
            np.zeros((1, self._slots, height, width), np.float32),
            np.zeros((1, height, width), np.float32),
            np.zeros(1, bool),
        )
        features = None
        if self.model.memorises_features:
            features = steps.encode(self.model, self.variables, frame[None])
        time = np.zeros(1, np.int32)
        given = self._over(empty, masks, masks != VOID)
        self._previous = temporal.Previous(frame[None], features, given, time)
        self._labels = np.where(masks == VOID, 0, masks).astype(np.uint8)
        return self._labels

    def segment(self, frames, masks, *, num_objects=None, probabilities=False):
        """Segments a video from its first frame to its last.

        Args:
          frames: iterable of u8[H, W, 3]; one at a time is taken.
          masks: u8[H, W] ids of the first frame, or a dict of such masks by index of their frame:
            those of later frames are written over its result, as by `add_objects`.
          num_objects: as for `start`.
          probabilities: whether these are wanted too.

        Yields:
          u8[H, W] ids of each frame, or (ids, f32[n + 1, H, W]) as `step` gives them.
        """
        given = dict(masks) if isinstance(masks, dict) else {0: masks}
        if 0 not in given:
            raise InputError('no masks of frame 0; begin with the first frame that has some')
        for index, frame in enumerate(frames):
            if index == 0:
                labels = self.start(frame, given[0], num_objects=num_objects)
            else:
                labels = self.step(frame)
                labels = self.add_objects(given[index]) if index in given else labels
            yield (labels, self.probabilities()) if probabilities else labels

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
        frame = self._checked_next(frame)
        result = steps.advance(self.model, self.variables, *self._inputs(frame))
        self._take(frame, result)
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
        masks = self._checked_given(masks)
        return self._give(masks, (masks > 0) & (masks != VOID))

    def correct(self, masks):
        """Puts given masks in place of the result of the current frame, background included.

        Args:
          masks: u8[H, W] ids, 0 background, and 255 where the result stays as it is.

        Returns:
          u8[H, W] ids of the corrected frame, which enters the memory so.
        """
        masks = self._checked_given(masks)
        return self._give(masks, masks != VOID)

    def observe(self, frame, masks, *, after=1, given=True):
        """Takes a later frame whose masks are known: it is remembered, nothing is segmented.

        Args:
          frame: u8[H, W, 3], of the size of the first.
          masks: u8[H, W] ids; 0 and 255 are background.
          after: how many frames it comes after the current one.
          given: whether a person gave the masks; else they count as a result.

        Returns:
          u8[H, W] the ids.

        Raises:
          InputError: as `step` and `add_objects`.
        """
        frame = self._checked_next(frame)
        masks = self._checked_given(masks)
        if after < 1:
            raise InputError(f'after={after}: the frame comes at least 1 after the current one')
        self._entries[self._time] = steps.memorise(
            self.model, self.variables, self._previous, self._used()
        )
        self._time += after
        self._thin()
        features = None
        if self.model.memorises_features:
            features = steps.encode(self.model, self.variables, frame[None])
        time = np.full(1, self._time, np.int32)
        self._previous = self._previous.replace(frame=frame[None], features=features, time=time)
        known = np.where(masks == VOID, 0, masks).astype(np.uint8)
        labels = self._give(known, np.ones(masks.shape, bool), given=given)
        return labels

    def probabilities(self):
        """f32[n + 1, H, W] of the current frame, masks given for it included: background, then
        the objects in the order of `ids`."""
        self._check_started()
        objects = np.asarray(self._previous.masks.objects)[0, : len(self._ids)]
        return np.concatenate([1.0 - objects.sum(axis=0, keepdims=True), objects])

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

        Raises:
          InputError: for a state of another model.
        """
        previous, entries = states.rebuild(self.model, self.variables, state)
        # All is checked: only now is the video before left.
        self._time, self._slots = int(state['time']), int(state['slots'])
        self._ids, self._labels = np.asarray(state['ids']).tolist(), np.asarray(state['labels'])
        self._given = np.asarray(state['given']).tolist()
        on_device = jax.device_put((previous.features, previous.masks), self._device)
        self._previous = previous.replace(features=on_device[0], masks=on_device[1])
        self._entries = jax.device_put(entries, self._device)

    def save(self, path):
        """Writes `state` as one file, which appears whole or not at all."""
        states.write(path, self.state(), self._fingerprint)

    def load(self, path):
        """Goes on from a file of `save`, in this process or another one.

        Raises:
          InputError: where the file is missing or damaged, or belongs to other weights.
        """
        self.restore(states.read(path, self._fingerprint))

    @functools.cached_property
    def _fingerprint(self):
        return checksum.fingerprint(weights.named(self.variables))

    def _inputs(self, frame):
        """What `steps.advance` is called with for the next frame, after model and variables."""
        now = self._time + 1
        entries, position, is_read = self._memory_for(now)
        return (
            entries,
            self._previous,
            frame[None],
            self._used(),
            np.int32(position),
            np.bool_(is_read),
            np.full(1, now, np.int32),
        )

    def _take(self, frame, result):
        """Goes on to the frame for which `steps.advance` gave a result."""
        self._entries[self._time] = result['entry']
        self._time += 1
        self._previous = temporal.Previous(
            frame[None], result['features'], result['masks'], np.full(1, self._time, np.int32)
        )
        self._thin()
        # Fetched whole: a slice on the device is a program of its own for each number of objects.
        self._labels = self._to_ids(np.asarray(result['labels'])[0])

    def _give(self, masks, is_given, given=True):
        """Writes masks over the current frame where `is_given`, and gives its ids."""
        ids = self._ids + [number for number in inputs.ids_of(masks) if number not in self._ids]
        needed = num_slots_for(len(ids))
        if needed > self._slots:
            self._widen(needed)
        self._ids = ids
        if given:
            self._given = sorted({*self._given, self._time})
        merged = self._over(self._previous.masks, masks, is_given, given)
        self._previous = self._previous.replace(masks=merged)
        self._labels = np.where(is_given, masks, self._labels).astype(np.uint8)
        return self._labels

    def _memory_for(self, now):
        """Entries for the memory; the slot of the previous frame, and whether it is read."""
        chosen = memory_policy.select(self.memory, [*self._entries, now - 1], now, self._given)
        old = [time for time in chosen if time != now - 1]
        empty = self._empty_entry()
        entries = [self._entries[time] for time in old]
        entries += [empty] * (self.memory.num_slots_for(len(old) + 1) - len(old))
        return tuple(entries), len(old), now - 1 in chosen

    def _empty_entry(self):
        """An empty slot of the memory; made once for each frame size and number of slots."""
        key = (*self._previous.frame.shape, self._slots)
        if self._empty[0] != key:
            shapes = steps.entry_shapes(self.model, self.variables, self._previous, self._used())
            zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
            self._empty = (key, jax.device_put(zeros, self._device))
        return self._empty[1]

    def _thin(self):
        kept = memory_policy.keep(self.memory, [*self._entries], self._given)
        self._entries = {time: self._entries[time] for time in kept}

    def _used(self):
        return (np.arange(self._slots) < len(self._ids))[None]

    def _over(self, masks, given, is_given, counts_as_given=True):
        """Given ids written over masks of the slots."""
        objects = np.array(masks.objects)
        foreground = np.array(masks.foreground)
        for slot, number in enumerate(self._ids):
            objects[0, slot] = np.where(is_given, given == number, objects[0, slot])
        foreground[0] = np.where(is_given, given > 0, foreground[0])
        merged = protocol.Masks(objects, foreground, np.full(1, counts_as_given, bool))
        return jax.device_put(merged, self._device)

    def _widen(self, num_slots):
        missing = num_slots - self._slots
        for time, entry in self._entries.items():
            self._entries[time] = steps.widened(self.model, self.variables, entry, num_slots)
        masks = self._previous.masks
        objects = np.pad(np.asarray(masks.objects), ((0, 0), (0, missing), (0, 0), (0, 0)))
        masks = jax.device_put(masks.replace(objects=objects), self._device)
        self._previous = self._previous.replace(masks=masks)
        self._slots = num_slots

    def _to_ids(self, slots):
        table = np.zeros(256, np.uint8)
        table[1 : len(self._ids) + 1] = self._ids
        return table[slots]

    def _checked_next(self, frame):
        self._check_started()
        frame = inputs.checked_frame(frame)
        if frame.shape != self._previous.frame.shape[1:]:
            raise InputError(
                f'frame of size {frame.shape[:2]} in a video of size '
                f'{self._previous.frame.shape[1:3]}; scale the frames to one size'
            )
        return frame

    def _checked_given(self, masks):
        self._check_started()
        return inputs.checked_masks(masks, self._labels.shape)

    def _check_started(self):
        if self._previous is None:
            raise InputError('no video has begun; call start(frame, masks) first')


def step_together(segmenters, frames):
    """Does `step` of several segmenters, each in a video of its own.

    Those with frames of one size and as many slots are computed in one program, filled up to the
    next power of two, so that few programs are compiled.

    Args:
      segmenters: siblings, see `Segmenter.sibling`.
      frames: u8[H, W, 3], one for each.

    Returns:
      List of u8[H, W] ids.
    """
    groups = {}
    for one, frame in zip(segmenters, frames, strict=True):
        frame = one._checked_next(frame)
        arguments = one._inputs(frame)
        leaves, structure = jax.tree.flatten(arguments)
        shapes = (structure, *(np.shape(leaf) for leaf in leaves))
        groups.setdefault(shapes, []).append((one, frame, arguments))
    for members in groups.values():
        videos = [arguments for _, _, arguments in members]
        videos += videos[-1:] * ((1 << (len(videos) - 1).bit_length()) - len(videos))
        first = members[0][0]
        results = steps.advance_together(first.model, first.variables, tuple(videos))
        for (one, frame, _), result in zip(members, results):
            one._take(frame, result)
    return [one._labels for one in segmenters]
