"""A segmenter around an exported frame step."""

import json
from pathlib import Path

import jax
import numpy as np
from jax import export

from . import selection

VOID = 255


class Exported:
    """Segments one video after the other, frame by frame, at the size it was exported for.

    Attributes:
      size: (height, width) of frames.
      num_slots: most objects.
      ids: of the objects known so far, in the order of their slots.
    """

    def __init__(self, folder, device=None):
        """
        Args:
          folder: that `python -m vos_jax.commands.export` wrote.
          device: jax.Device to run on; default: jax's.
        """
        folder = Path(folder)
        about = json.loads((folder / 'about.json').read_text())
        self.size, self.num_slots = tuple(about['size']), about['slots']
        self._settings = selection.Settings(**about['memory'])
        self._encode = _program(folder / 'encode.jax_export')
        self._step, (_, entries, *_) = _program(folder / 'step.jax_export')
        with np.load(folder / 'weights.npz') as archive:
            weights = tuple(archive[name] for name in about['weights'])
        empty = tuple(np.zeros(leaf.shape, leaf.dtype) for leaf in entries[0])
        self._weights, self._empty = jax.device_put((weights, empty), device)
        self._num_entries = len(entries)
        self._previous, self.ids = None, []

    def start(self, frame, masks):
        """Begins a video.

        Args:
          frame: u8[H, W, 3], RGB.
          masks: u8[H, W] object ids, 0 background, 255 nothing.

        Returns:
          u8[H, W] the ids.
        """
        frame, masks = self._checked(frame, 3), self._checked(masks)
        if not np.any((masks > 0) & (masks != VOID)):
            raise ValueError('the first masks show no object; give at least one pixel an id 1..254')
        self._entries, self.ids, self._time, self._given = {}, [], 0, []
        objects = np.zeros((1, self.num_slots, *self.size), np.float32)
        foreground = np.zeros((1, *self.size), np.float32)
        features = ()
        if self._encode is not None:
            features = self._encode[0](self._weights, frame[None])
        self._previous = (frame[None], features, (objects, foreground, np.zeros(1, bool)))
        self._labels = np.zeros(self.size, np.uint8)
        return self._give(masks, masks != VOID)

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
        now = self._time + 1
        kept = [*self._entries, self._time]
        chosen = selection.select(self._settings, kept, now, self._given)
        old = [time for time in chosen if time != self._time]
        entries = [self._entries[time] for time in old]
        entries += [self._empty] * (self._num_entries - len(old))
        before, features, masks = self._previous
        labels, maps, masks, features, entry = self._step(
            self._weights,
            tuple(entries),
            (before, *features, *masks, np.full(1, self._time, np.int32)),
            frame[None],
            (np.arange(self.num_slots) < len(self.ids))[None],
            np.int32(len(old)),
            np.bool_(self._time in chosen),
            np.full(1, now, np.int32),
        )
        self._entries[self._time] = entry
        kept = selection.keep(self._settings, [*self._entries], self._given)
        self._entries = {time: self._entries[time] for time in kept}
        self._previous, self._time = (frame[None], features, masks), now
        self._labels = np.array([0, *self.ids], np.uint8)[np.asarray(labels)[0]]
        if not probabilities:
            return self._labels
        return self._labels, np.asarray(maps)[0, : len(self.ids) + 1]

    def add_objects(self, masks):
        """Writes masks over the current frame; 0 and 255 change nothing."""
        self._check_started()
        masks = self._checked(masks)
        return self._give(masks, (masks > 0) & (masks != VOID))

    def correct(self, masks):
        """Puts masks in place of the current result, background too; 255 changes nothing."""
        self._check_started()
        masks = self._checked(masks)
        return self._give(masks, masks != VOID)

    def _give(self, masks, is_given):
        new = [int(n) for n in np.unique(masks[is_given]) if n and n not in self.ids]
        if len(self.ids) + len(new) > self.num_slots:
            raise ValueError(
                f'{len(self.ids) + len(new)} objects, exported for {self.num_slots}; export again '
                'with more --objects'
            )
        self.ids = [*self.ids, *new]
        self._given = sorted({*self._given, self._time})
        frame, features, (objects, foreground, _) = self._previous
        objects, foreground = np.array(objects), np.array(foreground)
        for slot, number in enumerate(self.ids):
            objects[0, slot] = np.where(is_given, masks == number, objects[0, slot])
        foreground[0] = np.where(is_given, masks > 0, foreground[0])
        self._previous = (frame, features, (objects, foreground, np.ones(1, bool)))
        self._labels = np.where(is_given, masks, self._labels).astype(np.uint8)
        return self._labels

    def _checked(self, array, *channels):
        array = np.array(array)
        if array.dtype != np.uint8 or array.shape != (*self.size, *channels):
            raise ValueError(
                f'{array.dtype}{list(array.shape)}; this model was exported for uint8 '
                f'{[*self.size, *channels]}: scale the video, or export again with its --size'
            )
        return array

    def _check_started(self):
        if self._previous is None:
            raise ValueError('no video has begun; call start(frame, masks) first')


def _program(path):
    """(function, shapes of its arguments), or None without the file."""
    if not path.is_file():
        return None
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
