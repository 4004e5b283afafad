"""A segmenter around an exported frame step."""

from pathlib import Path

import jax
import numpy as np
from jax import export

from . import selection, video
from .about import read_about
from .session import Session


class Exported(Session):
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
        super().__init__(_Program(folder, about, device))

    def _checked_frame(self, frame, size=None):
        return self._checked(frame, 3)

    def _checked_masks(self, masks, size):
        return self._checked(masks)

    def _checked(self, array, *channels):
        array = np.array(array)
        if array.dtype != np.uint8 or array.shape != (*self.size, *channels):
            raise ValueError(
                f'{array.dtype}{list(array.shape)}; this model was exported for uint8 '
                f'{[*self.size, *channels]}: scale the video, or export again with its --size'
            )
        return array


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
