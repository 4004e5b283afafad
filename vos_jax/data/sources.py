"""Which video each element of a run comes from: data sets by weight, their videos in epochs."""

import functools

import numpy as np

from vos_jax.data import layouts, prepared
from vos_jax.errors import InputError

_PERIOD = 1000  # elements after which the order of the sources repeats; shares are exact to 0.1 %


class Sources:
    """The videos of all data sets, mixed by weight.

    Within a data set each epoch shows every video once, in an order of its own. Where element i
    comes from follows from (seed, i) alone.

    Args:
      sources: settings.Source for each data set.
      seed: int, 0 or more.
    """

    def __init__(self, sources, seed):
        self.names = tuple(source.name or source.root for source in sources)
        self.strides = tuple(source.stride for source in sources)
        self.sequences = tuple(tuple(_open(source)) for source in sources)
        self.shares = np.array([source.weight for source in sources]) / sum(
            source.weight for source in sources
        )
        self._seed = seed
        self._pattern = _interleave(self.shares)
        # Row k: elements that each source has given before position k of the pattern.
        taken = self._pattern[:, None] == np.arange(len(sources))
        self._before = np.concatenate([np.zeros((1, len(sources)), int), np.cumsum(taken, axis=0)])

    def locate(self, index):
        """Source, epoch and video of element `index`, as ints."""
        rounds, position = divmod(index, _PERIOD)
        source = int(self._pattern[position])
        drawn = int(rounds * self._before[-1, source] + self._before[position, source])
        epoch, place = divmod(drawn, len(self.sequences[source]))
        order = _order(self._seed, source, epoch, len(self.sequences[source]))
        return source, epoch, int(order[place])

    def draw(self, rng):
        """Draws any video by the weights: (source, Sequence)."""
        source = int(rng.choice(len(self.shares), p=self.shares))
        return source, self.sequences[source][rng.integers(len(self.sequences[source]))]


def _open(source):
    if source.kind == 'davis':
        found = layouts.davis(
            source.root, source.split, source.year, source.resolution, binary=source.binary
        )
    elif source.kind == 'youtube_vos':
        found = layouts.youtube_vos(source.root, source.split)
    elif source.kind == 'still_images':
        found = layouts.still_images(source.root, binary=source.binary)
    elif source.kind == 'prepared':
        found = prepared.prepared(source.root, source.split)
    else:
        raise InputError(
            f"data source {source.name or source.root}: kind '{source.kind}'; "
            "one of 'davis', 'youtube_vos', 'still_images', 'prepared'"
        )
    layouts.require_masks(found)
    return found


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
