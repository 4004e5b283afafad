"""Segments a video from given masks, in constant memory: reads ahead, computes, writes behind."""

import contextlib
import dataclasses
import functools
import statistics
import time

import numpy as np

from vos_jax.data.clips import count_pixels
from vos_jax.data.overlay import overlay
from vos_jax.errors import InputError
from vos_jax.inference import runner
from vos_jax.video import scaling
from vos_jax.video.writer import VideoWriter

_WRITE_BEHIND = 8


@dataclasses.dataclass
class Record:
    """What a run finds out about the frames it writes.

    Attributes:
      names: of the masks, in time order.
      areas: for each frame the pixels of each object, in the order of `ids`.
      ids: of all objects, rising.
      model_s: seconds of each frame that was computed, as `runner.Watch` takes them.
      seconds: of the whole, computed frames only.
      damage: why the video could not be read to its end, or None.
    """

    ids: list[int]
    names: list[str] = dataclasses.field(default_factory=list)
    areas: list[list[int]] = dataclasses.field(default_factory=list)
    model_s: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    damage: str | None = None

    def summary(self):
        """Plain values for summary.json."""
        objects = {}
        for index, number in enumerate(self.ids):
            area = [row[index] for row in self.areas]
            empty = [name for name, pixels in zip(self.names, area) if not pixels]
            objects[str(number)] = {'area_px': area, 'empty_frames': empty}
        computed = len(self.model_s)
        return {
            'frames': self.names,
            'objects': objects,
            'computed_frames': computed,
            'fps': computed / self.seconds if computed else None,
            'model_fps': 1 / statistics.median(self.model_s) if computed else None,
            'fps_includes': 'fps: reading, model, writing and compilation, over the frames that '
            'this command computed; model_fps: the median frame, from one result to the next',
            'damage': self.damage,
        }


class Propagation:
    """Takes a video from its first given masks on, at the working size.

    Args:
      segmenter: has `start`, `step` and `add_objects` (`vos_jax.inference.segmenter`); best a
        lazy one.
      given: given.GivenMasks.
      size: (height, width) of the video.
      working_size: (height, width) at which the model works.
      num_objects: of the whole video.
    """

    def __init__(self, segmenter, given, size, working_size, num_objects):
        self._segmenter, self._given = segmenter, given
        self._size, self._working_size = size, working_size
        self._num_objects = num_objects

    def advance(self, number, image):
        """Hands the next frame, u8[h, w, 3] at the working size, to the model.

        Returns:
          A function without arguments that waits for the result, and gives another one, which gives
          u8[H, W] ids at the size of the video: enlarging takes time that need not be spent here.
        """
        new = self._given.read(number)
        if number == self._given.first:
            small = scaling.shrink_labels(new, self._working_size)
            self._segmenter.start(image, small, num_objects=self._num_objects)
            return lambda: lambda: new
        is_scaled = self._size != self._working_size
        result = self._segmenter.step(image, probabilities=is_scaled)
        ids = self._segmenter.ids
        if new is not None:
            self._segmenter.add_objects(scaling.shrink_labels(new, self._working_size))
        maps = result[1] if is_scaled else result
        return lambda: functools.partial(self._finish, np.asarray(maps), ids, new)

    def _finish(self, maps, ids, new):
        is_scaled = self._size != self._working_size
        labels = scaling.enlarge(maps, ids, self._size) if is_scaled else maps
        return labels if new is None else np.where(new > 0, new, labels)


def segment_video(
    segmenter,
    video,
    given,
    chosen,
    output,
    *,
    working_size,
    ids,
    draw=True,
    state_every_s=15.0,
    on_frame=lambda name: None,
):
    """Segments the chosen frames of a video from the first given mask on.

    Resumes from the state in `output` where there is one. The frames before that are read again for
    the overlay (`draw`), not computed again.

    Args:
      video: of `reader.open_video`.
      given: given.GivenMasks, checked.
      chosen: reader.Range.
      output: folder.Output.
      working_size: (height, width) for the model.
      ids: of all objects of the video, rising.
      state_every_s: how often the segmenter's state is kept: what a killed run has written after
        the last one is computed again, with the same result.
      on_frame: called with the name of each frame that is handed over for writing.

    Returns:
      Record. Where the video is damaged, all that came before is written and `damage` says so.
    """
    record, segmenter = Record(ids), segmenter.sibling(lazy=True)
    task = Propagation(segmenter, given, tuple(video.size), tuple(working_size), len(ids))
    done, state = output.load_state() or (-1, None)
    if state is not None:
        segmenter.restore(state)
    last, frames = done, video.read(dataclasses.replace(chosen, start=given.first))
    start_s = time.monotonic()
    with _overlay(output, video, chosen, draw) as movie:
        sink = _Sink(output, record, movie)
        driven = runner.drive(
            _until_damaged(frames, tuple(working_size), record),
            lambda item: task.advance(item[0].number, item[1]),
            sink.write,
            is_done=lambda item: item[0].number <= done,
            keeping=runner.Keeping(state_every_s, segmenter.state, sink.keep),
            watch=runner.Watch(lambda _, seconds, __: record.model_s.append(seconds)),
            write_behind=_WRITE_BEHIND,
        )
        for frame, _ in driven:
            last = frame.number
            start_s = time.monotonic() if last <= done else start_s
            on_frame(frame.name)
    record.damage = record.damage or _unreached(video, given, last)
    if record.damage and last >= given.first:
        output.save_state(last, segmenter.state())
    record.seconds = time.monotonic() - start_s
    return record


class _Sink:
    """Takes frames with their labels, in order: masks, overlay, areas."""

    def __init__(self, output, record, movie):
        self._output, self._record, self._movie = output, record, movie
        self._first_s = None

    def write(self, item, labels):
        """Takes a frame of the video, its image for the model, and what gives u8[H, W] ids.

        None instead of that where an interrupted run has written the mask.
        """
        frame, _ = item
        if labels is None:
            labels = self._output.read_mask(frame.name, frame.image.shape[:2])
        else:
            labels = labels()
            self._output.write_mask(frame.name, labels)
        self._record.names.append(frame.name)
        self._record.areas.append(count_pixels(labels)[self._record.ids].tolist())
        if self._movie is not None:
            self._first_s = frame.time_s if self._first_s is None else self._first_s
            self._movie.write(overlay(frame.image, labels), frame.time_s - self._first_s)

    def keep(self, item, state):
        self._output.save_state(item[0].number, state)


def _overlay(output, video, chosen, draw):
    if not draw:
        return contextlib.nullcontext()
    return VideoWriter(output.overlay, video.size, video.rate / chosen.stride)


def _until_damaged(frames, size, record):
    """(frame, its image for the model) while the video can be read: what was segmented stays."""
    try:
        for frame in frames:
            yield frame, scaling.shrink_image(frame.image, size)
    except InputError as error:
        record.damage = str(error)


def _unreached(video, given, last):
    """What to say of masks after the end of the video, or None."""
    number = max(given.files)
    if number <= last:
        return None
    path = given.files[number]
    return f'{path}: {video.path} has no frame {number}, its last is {last}; rename the mask'
