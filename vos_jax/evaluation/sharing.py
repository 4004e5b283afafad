"""How processes share the sequences of an evaluation."""

from collections.abc import Sequence


def deal(items: Sequence, lengths: Sequence[int], num_parts: int) -> list[list]:
    """Shares items so that each part has about the same length; the same in each process.

    >>> deal('abcd', [1, 5, 2, 2], 2)
    [['b'], ['c', 'd', 'a']]
    """
    parts, totals = [[] for _ in range(num_parts)], [0] * num_parts
    for number in sorted(range(len(items)), key=lambda number: (-lengths[number], number)):
        part = totals.index(min(totals))
        parts[part].append(items[number])
        totals[part] += lengths[number]
    return parts
