"""Reads compiled programs: which collectives they have, how large, how often."""

import collections
import math
import re

_KINDS = 'all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all'
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_COLLECTIVE = re.compile(rf'= (.*?) ({_KINDS})(-start)?\(')
_ARRAY = re.compile(r'\b([a-z]+)(\d+)?\w*\[([\d,]*)\]')
_CALLED = re.compile(
    r'(?:calls|to_apply|body|condition|branch_computations|called_computations)='
    r'(\{[^}]*\}|%?[\w.\-]+)'
)
_TRIPS = re.compile(r'known_trip_count\D+(\d+)')


def collectives(text):
    """Collectives of a program as one device runs it.

    Args:
      text: HLO after optimisation, `compiled.as_text()`.

    Returns:
      dict of kind -> [number a step, bytes of their results a step]; the bodies of loops count as
      often as they run, where the compiler knows.

    >>> text = '''ENTRY %main (x: f32[8]) -> f32[8] {
    ...   %y = f32[8]{0} all-reduce(%x), to_apply=%add
    ... }'''
    >>> collectives(text)
    {'all-reduce': [1, 32]}
    """
    blocks, entry = _blocks(text)
    found = collections.defaultdict(lambda: [0, 0])
    for line, times in _lines(blocks, entry, 1):
        match = _COLLECTIVE.search(line)
        if match:
            shape, kind, is_started = match.groups()
            # What starts an all-reduce names its results alone, the other kinds operands too.
            has_operands = bool(is_started) and kind != 'all-reduce'
            found[kind][0] += times
            found[kind][1] += times * _bytes(shape, has_operands)
    return dict(found)


def _lines(blocks, name, times):
    """Lines of a computation and of those that it calls, with how often each runs."""
    for line in blocks.get(name, ()):
        yield line, times
        trips = _TRIPS.search(line) if ' while(' in line else None
        for called in _called(line):
            yield from _lines(blocks, called, times * (int(trips[1]) if trips else 1))


def _called(line):
    """Names of the computations that a line calls."""
    return re.findall(r'[\w.\-]+', ' '.join(match[1] for match in _CALLED.finditer(line)))


def _blocks(text):
    """Lines of each computation by name, and the name of the entry."""
    blocks, entry, current = {}, None, None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head and not line.startswith(' '):
            current = blocks.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif current is not None:
            current.append(line)
    return blocks, entry


def _bytes(shape, has_operands):
    """Bytes of 'f32[8,4]{1,0}' or of a tuple of such, whose first half are perhaps operands."""
    sizes = [
        math.prod(int(side) for side in sides.split(',') if side) * (int(bits or 8)) // 8
        for _, bits, sides in _ARRAY.findall(shape)
        if sides or not has_operands  # a pending transfer has scalars of its own
    ]
    return sum(sizes[len(sizes) // 2 :] if has_operands else sizes)
