"""Segments one video after the other, frame by frame: what a model and an exported one share."""

import numpy as np

from . import video
from .video import VOID


class Session:
    """A shell around a video.Program: functions there carry on the state of the video."""

    error = ValueError  # raised for wrong input

    def __init__(self, program):
        self.program = program
        self._state = None
        self._is_lazy = False  # whether results may still be on the device

    @property
    def ids(self):
        """Ids of the objects known so far, in the order of their slots."""
        return self._state.ids if self._state else ()

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
          ValueError: for a frame or masks of a wrong form, or masks without an object.
        """
        frame = self._checked_frame(frame)
        masks = self._checked_masks(masks, frame.shape[:2])
        if not video.ids_of(masks):
            raise self.error('the first masks show no object; give at least one pixel an id 1..254')
        self._state = video.begin(self.program, frame, masks, num_objects or 0)
        return self._labels()

    def step(self, frame, *, probabilities=False):
        """Segments the next frame.

        Args:
          frame: u8[H, W, 3], of the size of the first.
          probabilities: whether these are wanted too.

        Returns:
          u8[H, W] ids, or (ids, f32[n + 1, H, W]): background, then the objects in the order of
          `ids`.

        Raises:
          ValueError: before `start`, or for a frame of another form or size.
        """
        frame = self._checked_next(frame)
        self._state, maps = video.advance(self.program, self._state, frame)
        if not probabilities:
            return self._labels()
        maps = _Cut(self.program, maps, (0, slice(len(self.ids) + 1)))
        return self._labels(), maps if self._is_lazy else np.asarray(maps)

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
        """Replaces the result of the current frame by given masks, background included.

        Args:
          masks: u8[H, W] ids, 0 background, and 255 where the result stays as it is.

        Returns:
          u8[H, W] ids of the corrected frame, which enters the memory so.
        """
        masks = self._checked_given(masks)
        return self._give(masks, masks != VOID)

    def probabilities(self):
        """f32[n + 1, H, W] of the current frame, masks given for it included: background, then
        the objects in the order of `ids`."""
        return video.probabilities(self.program, self._started())

    def _give(self, masks, is_given):
        self._state = video.give(self.program, self._state, masks, is_given)
        return self._labels()

    def _labels(self):
        labels = self._started().labels
        return labels if self._is_lazy else self.program.fetch(labels)

    def _started(self):
        if self._state is None:
            raise self.error('no video has begun; call start(frame, masks) first')
        return self._state

    def _checked_next(self, frame):
        return self._checked_frame(frame, self._started().previous.frame.shape[1:3])

    def _checked_given(self, masks):
        return self._checked_masks(masks, self._started().labels.shape)

    def _checked_frame(self, frame, size=None):
        """The frame u8[H, W, 3] as an array of our own; `size` (H, W) of a video that has begun."""
        # A copy: it is memorised at the next step, when the caller's buffer may hold another frame.
        frame = np.array(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise self.error(
                f'frame of {frame.dtype}{list(frame.shape)}; needed: uint8 [height, width, 3], RGB'
            )
        if size is not None and frame.shape[:2] != tuple(size):
            raise self.error(
                f'frame of size {frame.shape[:2]} in a video of size {tuple(size)}; scale the '
                'frames to one size'
            )
        return frame

    def _checked_masks(self, masks, size):
        """The masks u8[H, W] of a frame of size (H, W)."""
        masks = np.asarray(masks)
        if masks.dtype != np.uint8 or masks.shape != tuple(size):
            raise self.error(
                f'masks of {masks.dtype}{list(masks.shape)}; needed: uint8 {list(size)}, object ids'
            )
        return masks


class _Cut:
    """A part of an array on the device, for `np.asarray`. It is cut out on the host: on the device
    that would be a program of its own for each number of objects."""

    def __init__(self, program, array, part):
        self._program, self._array, self._part = program, array, part

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._program.fetch(self._array)[self._part], dtype=dtype)
