"""Which processed frames a query frame reads: GIEL's sample over time, and its ablations.

Frames are numbered from 0, the given one, in the order in which they were processed.
"""

from typing import NamedTuple

import numpy as np


class Settings(NamedTuple):
    """Fields as of `config.schema.MemorySpec`, which may be given in its place."""

    policy: str = 'sample'
    size: int = 5
    every: int = 5
    capacity: int = 64


def select(settings, kept, now, given=(0,)):
    """Frames that query frame `now` reads.

    Args:
      settings: Settings.
      kept: rising frame numbers of the kept frames; the last is now - 1, the first 0.
      now: number of the query frame, at least 1.
      given: rising frame numbers of the frames with given masks; the first is 0.

    Returns:
      Rising list of frame numbers out of `kept`.

    >>> select(Settings(), list(range(20)), 20)
    [0, 5, 10, 14, 19]
    """
    previous = now - 1
    if settings.policy == 'first':
        return [0]
    if settings.policy == 'previous':
        return [previous]
    if settings.policy == 'first+previous':
        return sorted({0, previous})
    if settings.policy == 'given+previous':
        return sorted({*_references(settings, given), previous})
    if settings.policy == 'every_n':
        early = [time for time in given if time < previous]
        wanted = sorted({*range(0, previous, settings.every), *early})
        room = settings.size - 1
        wanted = [wanted[i] for i in _spread(len(wanted), room)] + [previous]
    else:
        wanted = _spread(now, settings.size)
    return sorted({nearest(kept, time) for time in wanted})


def _references(settings, given):
    """The first frame and the latest of those given later: one slot is for the previous frame."""
    room = max(settings.size - 2, 0)
    return [0, *given[max(len(given) - room, 1) :]]


def _spread(count, size):
    """At most `size` indices spread over range(count), the first and the last among them."""
    if count <= size:
        return list(range(count))
    return [int(i) for i in np.round(np.linspace(0, count - 1, size))]


def nearest(kept, time):
    """The kept frame nearest to `time`; the earlier one of two."""
    return min(kept, key=lambda other: (abs(other - time), other))


def keep(settings, kept, given=(0,)):
    """Frames that stay in the store once the previous frame is in it, too.

    Args:
      settings: Settings.
      kept: rising frame numbers of the frames in the store.
      given: of the frames with given masks.

    >>> keep(Settings('every_n'), [0, 5, 10, 11])
    [0, 5, 10]
    """
    if settings.policy == 'given+previous':
        return [time for time in kept if time in _references(settings, given)]
    if settings.policy == 'every_n':
        kept = [time for time in kept if time % settings.every == 0 or time in given]
    return thin(kept, settings.capacity - 1, given)


def thin(kept, capacity, given=(0,)):
    """Frames that stay when the store is full: every second one, the last, and those given.

    >>> thin([0, 1, 2, 3, 4, 5], 5)
    [0, 2, 4, 5]
    """
    if len(kept) <= capacity:
        return list(kept)
    stay = {*kept[::2], kept[-1]}
    with_given = stay | (set(kept) & set(given))
    # Where nearly every frame is given, the bound comes first.
    return sorted(with_given if len(with_given) <= capacity else stay)
