"""The policy of CFBI: references are the frames whose masks were given."""

from vos_jax.config.schema import MemorySpec
from vos_jax.inference.program.vos_loader.selection import keep, select

SETTINGS = MemorySpec('given+previous', size=4, capacity=4)


def test_the_first_frame_is_reference_and_previous_of_the_second():
    assert select(SETTINGS, [0], 1) == [0]


def test_predicted_frames_are_read_only_as_the_previous_one():
    assert select(SETTINGS, [0, 1, 2, 3, 4], 5) == [0, 4]


def test_frames_given_later_are_read_too():
    assert select(SETTINGS, [0, 3, 4, 5], 6, given=[0, 3]) == [0, 3, 5]
    assert select(SETTINGS, [0, 3, 4, 5], 6, given=[0, 5]) == [0, 5]


def test_of_too_many_given_frames_the_first_and_the_latest_are_read():
    assert select(SETTINGS, list(range(10)), 10, given=[0, 2, 4, 6, 8]) == [0, 6, 8, 9]


def test_the_references_stay_in_the_store_and_nothing_else():
    assert keep(SETTINGS, [0, 1, 2, 3], given=[0, 2]) == [0, 2]
    assert keep(SETTINGS, [0, 2, 4, 6, 7], given=[0, 2, 4, 6]) == [0, 4, 6]


def test_what_is_read_is_always_in_the_store():
    for every in (1, 2, 5):
        kept, given = [], [0]
        for now in range(1, 30):
            chosen = select(SETTINGS, [*kept, now - 1], now, given)
            assert set(chosen) <= {*kept, now - 1}
            kept = keep(SETTINGS, [*kept, now - 1], given)
            given += [now] if now % every == 0 else []
