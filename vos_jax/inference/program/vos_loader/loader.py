"""A segmenter around an exported frame step."""

from pathlib import Path

import jax
import numpy as np
from jax import export

from . import selection, video
from .about import read_about
from .video import VOID


class Exported:
    """Segments one video after the other, frame by frame, at the size it was exported for.

    Attributes:
      size: (height, width) of frames.
      num_slots: most objects.
    """

    def __init__(self, folder, device=None):
        """
        Args:
          folder: that `python -m vos_jax.commands.export` wrote.
          device: jax.Device to run on; default: jax's.

        Raises:
          ValueError: where a file of the folder is missing or damaged.
        """
        folder = Path(folder)
        about = read_about(folder)
        self.size, self.num_slots = tuple(about['size']), about['slots']
        self._program = _Program(folder, about, device)
        self._state = None

    @property
    def ids(self):
        """Ids of the objects known so far, in the order of their slots."""
        return list(self._state.ids) if self._state else []

    def start(self, frame, masks):
        """Begins a video.

        Args:
          frame: u8[H, W, 3], RGB.
          masks: u8[H, W] object ids, 0 background, 255 nothing.

        Returns:
          u8[H, W] the ids.
        """
        frame, masks = self._checked(frame, 3), self._checked(masks)
        if not video.ids_of(masks):
            raise ValueError('the first masks show no object; give at least one pixel an id 1..254')
        self._state = video.begin(self._program, frame, masks)
        return self._state.labels

    def step(self, frame, *, probabilities=False):
        """Segments the next frame.

        Args:
          frame: u8[H, W, 3].
          probabilities: whether these are wanted too.

        Returns:
          u8[H, W] ids, or (ids, f32[n + 1, H, W]): background, then the objects as in `ids`.
        """
        self._check_started()
        frame = self._checked(frame, 3)
        self._state, maps = video.advance(self._program, self._state, frame)
        labels = self._program.fetch(self._state.labels)
        if not probabilities:
            return labels
        return labels, self._program.fetch(maps)[0, : len(self.ids) + 1]

    def add_objects(self, masks):
        """Writes masks over the current frame; 0 and 255 change nothing."""
        self._check_started()
        masks = self._checked(masks)
        return self._give(masks, (masks > 0) & (masks != VOID))

    def correct(self, masks):
        """Replaces the current result by masks, background too; 255 changes nothing."""
        self._check_started()
        masks = self._checked(masks)
        return self._give(masks, masks != VOID)

    def _give(self, masks, is_given):
        self._state = video.give(self._program, self._state, masks, is_given)
        return self._state.labels

    def _checked(self, array, *channels):
        array = np.array(array)
        if array.dtype != np.uint8 or array.shape != (*self.size, *channels):
            raise ValueError(
                f'{array.dtype}{list(array.shape)}; this model was exported for uint8 '
                f'{[*self.size, *channels]}: scale the video, or export again with its --size'
            )
        return array

    def _check_started(self):
        if self._state is None:
            raise ValueError('no video has begun; call start(frame, masks) first')


class _Program:
    """The exported steps with their weights: a video.Program of one size and number of slots."""

    def __init__(self, folder, about, device):
        self.memory = selection.Settings(**about['memory'])
        self._slots, self._device = about['slots'], device
        encode = folder / 'encode.jax_export'  # only of models that memorise features
        self._encode = _read_program(encode)[0] if encode.is_file() else None
        self._step, (_, entries, *_) = _read_program(folder / 'step.jax_export')
        with np.load(folder / 'weights.npz') as archive:
            self._weights = self.put(tuple(archive[name] for name in about['weights']))
        self._empty = self.put(tuple(np.zeros(leaf.shape, leaf.dtype) for leaf in entries[0]))
        self._num_entries = len(entries)

    def slots_for(self, num_objects):
        if num_objects > self._slots:
            raise ValueError(
                f'{num_objects} objects, exported for {self._slots}; export again with more '
                '--objects'
            )
        return self._slots

    def num_entries(self, num_frames):
        return self._num_entries

    def put(self, arrays):
        return jax.device_put(arrays, self._device)

    def fetch(self, arrays):
        return jax.device_get(arrays)

    def encode(self, frame):
        """The features' arrays; none where the model does not memorise them."""
        return () if self._encode is None else self._encode(self._weights, frame)

    def advance(self, state, memory, frame):
        before = state.previous
        ids = np.zeros(256, np.uint8)
        ids[1 : len(state.ids) + 1] = state.ids
        labels, probabilities, masks, features, entry, time = self._step(
            self._weights,
            memory.entries,
            (before.frame, *before.features, *before.masks, before.time),
            frame,
            (np.arange(self._slots) < len(state.ids))[None],
            ids,
            np.int32(memory.position),
            np.bool_(memory.is_read),
        )
        return video.Result(labels, probabilities, video.Masks(*masks), features, entry, time)

    def empty(self, state):
        return self._empty


def _read_program(path):
    """(function, shapes of its arguments)."""
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
    except ImportError as error:  # jax itself does not install what its files need
        raise ValueError(
            f'{path}: jax reads it with flatbuffers: pip install flatbuffers'
        ) from error
    platform = jax.default_backend()
    known = {'gpu': ('cuda', 'rocm')}.get(platform, (platform,))
    if not set(known) & set(exported.platforms):
        raise ValueError(
            f'{path}: exported for {", ".join(exported.platforms)}, here is {platform}; export '
            'again with --platforms'
        )
    arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    return jax.jit(exported.call), arguments
