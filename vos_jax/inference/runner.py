"""Drives a video: reads ahead, computes, writes behind, takes the time, resumes. Needs no jax."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from vos_jax.storage.overlap import Behind, ahead

READ_AHEAD = 4
WRITE_BEHIND = 32
_END = object()


@dataclasses.dataclass(frozen=True)
class Keeping:
    """How the state of a video is kept now and then, so that a killed run need not begin anew.

    Attributes:
      every_s: seconds from one state to the next.
      take: gives the state after the last frame that was handed to the device, without waiting.
      write: function of a frame and the state after it; called in the writing thread, when all
        results up to there are written.
    """

    every_s: float
    take: Callable[[], Any]
    write: Callable[[Any, Any], None]


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who hears how long frames take.

    Attributes:
      record: called with each frame, its seconds, and whether something was compiled meanwhile.
        They run from the result before it to its own, or from its being handed over where that is
        later: reading and writing count where the device waits for them.
      count_compilations: number of compilations so far in the calling thread.
    """

    record: Callable[[Any, float, bool], None] = lambda frame, seconds, compiled: None
    count_compilations: Callable[[], int] = lambda: 0


@dataclasses.dataclass(frozen=True)
class Lane:
    """Segmenters of one device and what must surround their use; `batch.make_lanes` makes some.

    Attributes:
      segmenters: with `start`, `step` and `add_objects` (`vos_jax.inference.segmenter`), best lazy
        ones; as many as sequences are segmented at a time.
      context: entered by the thread that uses them, as to choose their device.
      count_compilations: number of compilations so far in the calling thread.
      step_together: function of segmenters and frames that does their `step` in one program.
    """

    segmenters: Sequence[Any]
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    count_compilations: Callable[[], int] = lambda: 0
    step_together: Callable[[list, list], list] | None = None


def drive(
    frames: Iterable,
    advance: Callable[[Any], Callable[[], Any]],
    write: Callable[[Any, Any], None],
    *,
    is_done: Callable[[Any], bool] = lambda frame: False,
    is_stopped: Callable[[], bool] = lambda: False,
    keeping: Keeping | None = None,
    watch: Watch = Watch(),
    read_ahead: int = READ_AHEAD,
    write_behind: int = WRITE_BEHIND,
) -> Iterator:
    """Drives one video; while a result is waited for and written, the device has the next frame.

    Args:
      frames: taken by a thread of its own, in advance; anything that `advance` knows.
      advance: hands a frame to the device, and gives a function that waits for its result.
      write: called with each frame and its result, in order, by a thread of its own.
      is_done: whether the result of a frame is there from an earlier run: it is not computed again,
        and `write` gets None for it.
      is_stopped: asked before each frame; then the result that is waited for is dropped.
      keeping, watch: see there.
      read_ahead, write_behind: frames and results that may wait; with write_behind=0 `write` is
        called at once.

    Yields:
      Each frame when its result has been handed over to be written. When the iterator is used up,
      all is written.
    """
    course = _Course(advance, keeping, watch)
    with _writing(write_behind) as put, contextlib.closing(ahead(frames, read_ahead)) as coming:
        for frame in coming:
            if is_stopped():
                return
            if is_done(frame):
                put(functools.partial(write, frame, None))
                yield frame
                continue
            if (before := course.hand_over(frame)) is not None:
                yield course.finish(before, put, write)
        if course.waiting is not None and not is_stopped():
            yield course.finish(course.waiting, put, write)


def rounds(videos: Iterable[Iterable], most: int) -> Iterator[list[tuple[int, Any]]]:
    """Takes several videos side by side; where one ends, the next begins.

    Args:
      videos: iterables of frames.
      most: videos at a time.

    Yields:
      (number of the video, frame) of each that is under way.

    >>> list(rounds(['ab', 'c', 'd'], most=2))
    [[(0, 'a'), (1, 'c')], [(0, 'b'), (2, 'd')]]
    """
    coming = ((number, iter(video)) for number, video in enumerate(videos))
    running = []
    while True:
        running += itertools.islice(coming, most - len(running))
        items, going = [], []
        while running:
            number, frames = running.pop(0)
            if (frame := next(frames, _END)) is _END:
                running += itertools.islice(coming, 1)
                continue
            items.append((number, frame))
            going.append((number, frames))
        if not items:
            return
        yield items
        running = going


@dataclasses.dataclass
class _Handed:
    """A frame that is on the device."""

    frame: Any
    result: Callable[[], Any]
    start_s: float
    state: Any = None


class _Course:
    """Where `drive` is: the frame on the device, and the clocks."""

    def __init__(self, advance, keeping, watch):
        self._advance, self._keeping, self._watch = advance, keeping, watch
        self.waiting = None
        self._finished_s = self._kept_s = time.monotonic()
        self._compilations = watch.count_compilations()

    def hand_over(self, frame):
        """Hands a frame to the device; gives the one before."""
        before, start_s = self.waiting, time.monotonic()
        self.waiting = _Handed(frame, self._advance(frame), start_s)
        keeping = self._keeping
        if keeping is not None and start_s - self._kept_s >= keeping.every_s:
            self._kept_s = start_s
            self.waiting.state = keeping.take()
        return before

    def finish(self, handed, put, write):
        """Waits for the result of a frame, and has it written; gives the frame."""
        result = handed.result()
        now_s, compilations = time.monotonic(), self._watch.count_compilations()
        seconds = now_s - max(handed.start_s, self._finished_s)
        self._watch.record(handed.frame, seconds, compilations > self._compilations)
        self._finished_s, self._compilations = now_s, compilations
        put(functools.partial(write, handed.frame, result))
        if handed.state is not None:
            put(functools.partial(self._keeping.write, handed.frame, handed.state))
        return handed.frame


@contextlib.contextmanager
def _writing(depth):
    """A function that has calls made one after the other, behind or at once."""
    if not depth:
        yield lambda call: call()
        return
    with Behind(depth) as behind:
        yield behind.put
