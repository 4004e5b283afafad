"""Settings of the memory: which processed frames a query frame reads, and how many are kept."""

import dataclasses

from vos_jax.errors import InputError

# Theirs is the code; it lies where an exported model finds it without this package.
from vos_jax.inference.program.vos_loader.selection import keep, nearest, select, thin

__all__ = ['POLICIES', 'MemorySettings', 'keep', 'nearest', 'select', 'thin']

POLICIES = ('sample', 'first', 'previous', 'first+previous', 'given+previous', 'every_n')


@dataclasses.dataclass(frozen=True)
class MemorySettings:
    """Settings of `config.inference.memory`.

    Attributes:
      policy: 'sample' (GIEL, section 4.1: `size` frames spread over the processed, the first
        and the previous always among them), 'first', 'previous', 'first+previous',
        'given+previous' (CFBI: all frames with given masks; of more than `size` - 1 the first and
        the latest), or 'every_n' (STM: every `every`-th frame, those with given masks and the
        previous one; at most `size`, spread if more).
      size: T, most frames read at once. With 'every_n' it may be larger than any video needs: the
        memory grows in steps, and only frames that may be read again are kept.
      every: for 'every_n'.
      capacity: most frames kept; when full, every second one but the first and the last is dropped,
        so memory does not grow with the video. Given frames stay where that leaves room.
    """

    policy: str = 'sample'
    size: int = 5
    every: int = 5
    capacity: int = 64

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise InputError(
                f"'inference.memory.policy' is {self.policy!r}; one of "
                f'{", ".join(map(repr, POLICIES))}'
            )
        rules = [
            ('size', 2, 'the first and the previous frame'),
            ('every', 1, 'each frame'),
            ('capacity', max(self.size, 3), 'as many as are read at once, and 3'),
        ]
        for name, least, why in rules:
            if getattr(self, name) < least:
                value = f"'inference.memory.{name}' is {getattr(self, name)}"
                raise InputError(f'{value}; needed: at least {least}, {why}')

    @property
    def num_slots(self):
        """Most slots of the assembled memory: one more where the previous frame is not read."""
        fixed = {'first': 2, 'previous': 1, 'first+previous': 2}
        return fixed.get(self.policy, self.size)

    def num_slots_for(self, num_frames):
        """Slots compiled for so many frames: all; with 'every_n' 5, 10, 20, ... as they grow.

        >>> [MemorySettings('every_n', 100, capacity=100).num_slots_for(n) for n in (1, 6, 90)]
        [5, 10, 100]
        """
        if self.policy != 'every_n':
            return self.num_slots
        slots = 5
        while slots < num_frames:
            slots *= 2
        return min(slots, self.size)
