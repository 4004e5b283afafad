"""Follows the objects of a project from one frame on, forwards or backwards."""

import numpy as np

from vos_jax.errors import InputError
from vos_jax.inference import runner
from vos_jax.storage.palette import VOID
from vos_jax.video import scaling


class Tracking:
    """One run from a frame with a mask to the end of the video, its begin, or a stop.

    What the memory should know is read back from the project: painted frames behind the first one,
    and a few of the masks found there. So a run resumes from any frame, after a stop, a correction
    or in another session.

    Args:
      segmenter: Segmenter.
      project: project.Project.
      start: frame that has a mask.
      direction: 1 forwards, -1 backwards.
      short_side: size at which the model works, see scaling.working_size.
    """

    def __init__(self, segmenter, project, start, direction, short_side):
        self._segmenter, self._project = segmenter.sibling(lazy=True), project
        self._start, self._direction = start, direction
        self._size = scaling.working_size(project.size, short_side)

    def total(self):
        """Frames to come, or None."""
        expected = self._project.frames.expected
        if self._direction < 0:
            return self._start
        return None if expected is None else expected - 1 - self._start

    def run(self, should_stop):
        """Yields the number of each frame whose mask is written; `should_stop` is asked before."""
        self._begin()
        driven = runner.drive(
            self._frames(should_stop),
            self._advance,
            lambda item, labels: self._project.store(item[0], labels),
            is_stopped=should_stop,
            write_behind=0,  # whoever hears of a frame may ask for its mask
        )
        yield from (number for number, _ in driven)

    def _frames(self, should_stop):
        frames, number = self._project.frames, self._start + self._direction
        while number >= 0 and frames.wait_for(number, should_stop):
            yield number, frames.image(number, self._size)
            number += self._direction

    def _begin(self):
        known = [*self._context(), self._start]
        last = None
        for number in known:
            image = self._project.frames.image(number, self._size)
            labels = scaling.shrink_labels(self._project.mask(number), self._size)
            if last is None:
                if not labels.any():
                    continue
                expected = {id_ for ids in self._project.given.values() for id_ in ids}
                num_objects = len(expected | set(np.unique(labels).tolist()) - {0})
                self._segmenter.start(image, labels, num_objects=num_objects)
            else:
                given = number in self._project.given or number == self._start
                after = abs(number - last)
                self._segmenter.observe(image, labels, after=after, given=given)
            last = number
        if last is None:
            raise InputError(
                f'frame {self._start} shows no object: mark one in it, or begin at a frame that '
                'has a mask'
            )

    def _context(self):
        """Frames with masks behind the first one, in the order in which they are remembered."""
        room = self._segmenter.memory.size - 1
        behind = sorted(
            (n for n in self._project.masked if (self._start - n) * self._direction > 0),
            reverse=self._direction < 0,
        )
        painted = [n for n in behind if n in self._project.given]
        chosen = set(painted[:1] + painted[1:][-(room - 1) :]) if room > 1 else set(painted[:1])
        others = [n for n in behind if n not in chosen]
        missing = min(room - len(chosen), len(others))
        if missing > 0:  # spread, the nearest among them
            index = np.round(np.linspace(0, len(others) - 1, missing + 1))[1:].astype(int)
            chosen |= {others[i] for i in index}
        return [n for n in behind if n in chosen]

    def _advance(self, item):
        """Hands a frame to the model; gives a function that waits for its u8[H, W] ids."""
        number, image = item
        project, segmenter = self._project, self._segmenter
        is_scaled = self._size != project.size
        result = segmenter.step(image, probabilities=is_scaled)
        found, maps = result if is_scaled else (result, None)
        ids, painted = segmenter.ids, project.given_mask(number)
        if painted is not None:
            small = scaling.shrink_labels(painted[0], self._size)
            decided = (small > 0) | np.isin(found, painted[1])
            segmenter.correct(np.where(decided, small, VOID).astype(np.uint8))

        def finish():
            if is_scaled:
                return scaling.enlarge(np.asarray(maps), ids, project.size)
            return np.asarray(found)

        return finish


def prepare(segmenter, size, short_side):
    """Compiles what the first run needs, while the first object is being painted.

    `size`: (height, width) of the stored frames; `short_side` as for Tracking.
    """
    size = scaling.working_size(size, short_side)
    labels = np.zeros(size, np.uint8)
    labels[size[0] // 3 : -size[0] // 3, size[1] // 3 : -size[1] // 3] = 1
    frame = np.zeros((*size, 3), np.uint8)
    segmenter.start(frame, labels)
    segmenter.step(frame)
