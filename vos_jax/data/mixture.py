"""Which video each element of a run comes from: data sets by weight, their videos in epochs."""

import bisect
import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from absl import logging

from vos_jax.config.schema import value_at
from vos_jax.data import layouts, prepared
from vos_jax.data.roots import find_root
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.paths import is_bucket

_PERIOD = 1000  # elements after which the order of the sources repeats; shares are exact to 0.1 %


class Sources:
    """The videos of all data sets, mixed by weight; weights may change with the step.

    Within a data set each epoch shows every video once, in an order of its own. Where element i
    comes from follows from (seed, i) alone.

    Args:
      sources: schema.Source for each data set.
      seed: int, 0 or more.
      batch_size: elements of a step; counts only where weights change with the step.
      skip_broken: leaves out videos whose files do not fit together, and says how many.
      stage: local folder to which prepared shards are copied first; '': none.
    """

    def __init__(self, sources, seed, *, batch_size=1, skip_broken=False, stage=''):
        self.names = tuple(source.name or source.root for source in sources)
        self.strides = tuple(source.stride for source in sources)
        self.sequences = tuple(list_usable(source, skip_broken, stage) for source in sources)
        self._seed = seed
        self._phases = _phases(sources, batch_size)
        self._starts = [phase.start for phase in self._phases]

    def listing(self):
        """What each data set holds, as text by its setting, for processes to compare."""
        named = zip(self.names, self.sequences)
        return {f'in data.sources.{name}': describe(videos) for name, videos in named}

    def locate(self, index):
        """Source, epoch and video of element `index`, as ints."""
        phase = self._phase(index)
        source = int(phase.pattern[(index - phase.start) % _PERIOD])
        drawn = int(phase.given_before(index)[source])
        epoch, place = divmod(drawn, len(self.sequences[source]))
        order = _order(self._seed, source, epoch, len(self.sequences[source]))
        return source, epoch, int(order[place])

    def draw(self, rng, index):
        """Draws any video by the weights at element `index`: (source, Sequence)."""
        shares = self._phase(index).shares
        source = int(rng.choice(len(shares), p=shares))
        return source, self.sequences[source][rng.integers(len(self.sequences[source]))]

    def _phase(self, index):
        return self._phases[bisect.bisect_right(self._starts, index) - 1]


class _Phase(NamedTuple):
    """Elements for which the weights stay the same.

    Attributes:
      start: the first one.
      shares: f64[S], of each source.
      pattern: int[_PERIOD], sources of the first elements; then it repeats.
      before: int[_PERIOD + 1, S], elements of each source before a position of the pattern.
      given: int[S], elements that each source has given before `start`.
    """

    start: int
    shares: np.ndarray
    pattern: np.ndarray
    before: np.ndarray
    given: np.ndarray

    def given_before(self, index):
        """int[S]: elements that each source has given before element `index`."""
        rounds, position = divmod(index - self.start, _PERIOD)
        return self.given + rounds * self.before[-1] + self.before[position]


def _phases(sources, batch_size):
    schedules = [source.weights for source in sources]
    given, phases = np.zeros(len(sources), int), []
    for step in sorted({step for schedule in schedules for step, _ in schedule}):
        start = step * batch_size
        if phases:
            given = phases[-1].given_before(start)
        weights = np.array([value_at(schedule, step) for schedule in schedules])
        shares = weights / weights.sum()
        pattern = _interleave(shares)
        taken = pattern[:, None] == np.arange(len(sources))
        before = np.concatenate([np.zeros((1, len(sources)), int), np.cumsum(taken, axis=0)])
        phases.append(_Phase(start, shares, pattern, before, given))
    return phases


def list_usable(source, skip_broken=False, stage=''):
    """The videos of a schema.Source of which every frame has a mask; options as of `Sources`."""
    broken = []
    on_broken = broken.append if skip_broken else None
    found = layouts.require_masks(_list(source, on_broken, stage), on_broken)
    name = source.name or source.root
    if broken:
        total = len(found) + len(broken)
        logging.warning('%s: skipped %d of %d videos: %s', name, len(broken), total, broken[0])
    if not found:
        raise InputError(f'{name}: all {len(broken)} videos are broken; the first: {broken[0]}')
    return tuple(found)


def describe(sequences):
    """Text such as '4 videos, 24 frames, crc32 1a2b3c4d', the checksum being of all names."""
    crc = 0
    for sequence in sequences:
        crc = checksum.of_bytes('\n'.join((sequence.name, *sequence.stems, '')).encode(), crc)
    frames = sum(len(sequence.stems) for sequence in sequences)
    return f'{len(sequences)} videos, {frames} frames, crc32 {crc:08x}'


def _list(source, on_broken, stage):
    source = dataclasses.replace(source, root=str(find_root(source.root)))
    # No layout holds an index of ours, so any config reads a prepared set by its root alone.
    if source.kind == 'prepared' or is_bucket(source.root) or prepared.is_prepared(source.root):
        return prepared.prepared(source.root, source.split, stage)
    if source.kind == 'davis':
        where = (source.root, source.split, source.year, source.resolution)
        return layouts.davis(*where, binary=source.binary, on_broken=on_broken)
    if source.kind == 'youtube_vos':
        return layouts.youtube_vos(source.root, source.split, on_broken=on_broken)
    return layouts.still_images(source.root, binary=source.binary)


def _interleave(shares):
    """Source of each of `_PERIOD` elements: always the one that lags most behind its share."""
    given = np.zeros(len(shares))
    pattern = np.empty(_PERIOD, int)
    for position in range(_PERIOD):
        # Rounded: shares of equal size must tie, and ties go to the first source.
        pattern[position] = np.argmax(np.round(shares * (position + 1) - given, 9))
        given[pattern[position]] += 1
    return pattern


@functools.lru_cache(maxsize=64)
def _order(seed, source, epoch, length):
    return np.random.default_rng([seed, 0, source, epoch]).permutation(length)
