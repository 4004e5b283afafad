import pytest

from vos_jax.config.read import read
from vos_jax.config.schema import POLICIES, MemorySpec
from vos_jax.errors import InputError
from vos_jax.inference.program.vos_loader.selection import keep, nearest, select, thin


def walk(settings, length, given=(0,)):
    """Plays a video: yields (query frame, kept frames, frames it reads)."""
    kept = []
    for now in range(1, length):
        kept.append(now - 1)
        known = [time for time in given if time < now]
        yield now, list(kept), select(settings, kept, now, known)
        kept = keep(settings, kept, known)


def test_the_first_frames_are_all_read():
    for now, _, chosen in walk(MemorySpec(), 6):
        assert chosen == list(range(now))


def test_later_frames_read_a_sample_spread_over_time():
    kept = list(range(11))
    assert select(MemorySpec(size=5), kept, 11) == [0, 2, 5, 8, 10]  # 0, 2.5, 5, 7.5, 10
    assert select(MemorySpec(size=3), kept, 11) == [0, 5, 10]
    assert select(MemorySpec(size=2), kept, 11) == [0, 10]


@pytest.mark.parametrize('size', [2, 3, 4, 5, 6])
def test_a_sample_has_the_first_the_previous_and_no_more_than_its_size(size):
    for now, kept, chosen in walk(MemorySpec(size=size, capacity=16), 150):
        assert {chosen[0], chosen[-1]} == {0, now - 1}
        assert len(chosen) <= size
        assert set(chosen) <= set(kept)


@pytest.mark.parametrize('policy', POLICIES)
def test_no_policy_reads_more_frames_than_there_are_slots(policy):
    settings = MemorySpec(policy, size=4, every=3, capacity=8)
    given = [0, 5, 6, 11, 30]
    for now, _, chosen in walk(settings, 60, given):
        # A slot is needed for the previous frame too, where it is written but not read.
        assert len({*chosen, now - 1}) <= settings.num_slots


def test_the_store_never_holds_more_than_its_capacity():
    sizes = [len(kept) for _, kept, _ in walk(MemorySpec(capacity=8), 500)]
    assert max(sizes) == 8


def test_the_store_is_bounded_where_every_frame_is_given():
    settings = MemorySpec('given+previous', capacity=8)
    for now, kept, chosen in walk(settings, 100, given=range(100)):
        assert len(kept) <= 8
        assert {0, now - 1} <= set(chosen) <= set(kept)


def test_a_thinned_store_reads_the_nearest_frames_it_kept():
    kept = [0, 8, 16, 24, 30, 31]
    # Wanted: 0, 7.75, 15.5, 23.25, 31.
    assert select(MemorySpec(), kept, 32) == [0, 8, 16, 24, 31]
    assert nearest(kept, 12) == 8  # of two, the earlier


def test_thinning_drops_every_second_frame_but_the_first_and_the_last():
    assert thin(list(range(8)), 7) == [0, 2, 4, 6, 7]
    assert thin(list(range(7)), 7) == list(range(7))
    assert thin([0, 2, 4, 6, 7, 8], 5) == [0, 4, 7, 8]


def test_thinning_keeps_given_frames():
    assert thin(list(range(8)), 7, given=[0, 3]) == [0, 2, 3, 4, 6, 7]


def test_first_and_previous_frames_alone():
    kept = list(range(9))
    assert select(MemorySpec('first'), kept, 9) == [0]
    assert select(MemorySpec('previous'), kept, 9) == [8]
    assert select(MemorySpec('first+previous'), kept, 9) == [0, 8]
    for policy in ('first', 'previous', 'first+previous'):
        assert select(MemorySpec(policy), [0], 1) == [0]


def test_given_frames_and_the_previous_one():
    kept = list(range(20))
    settings = MemorySpec('given+previous', size=4)
    assert select(settings, kept, 20, [0]) == [0, 19]
    assert select(settings, kept, 20, [0, 4, 9]) == [0, 4, 9, 19]
    assert select(settings, kept, 20, [0, 4, 9, 12]) == [0, 9, 12, 19]


def test_every_nth_frame_and_the_previous_one():
    kept = list(range(30))
    settings = MemorySpec('every_n', size=9, every=5)
    assert select(settings, kept[:12], 12) == [0, 5, 10, 11]
    assert select(settings, kept[:11], 11) == [0, 5, 10]
    # 0, 5, .. 25 are six; three of them, spread, and the previous one.
    settings = MemorySpec('every_n', size=4, every=5)
    assert select(settings, kept, 30) == [0, 10, 25, 29]


def test_frames_with_given_masks_stay_beside_every_nth():
    settings = MemorySpec('every_n', size=20, every=5, capacity=20)
    for now, kept, chosen in walk(settings, 40, given=[0, 7]):
        known = [time for time in (0, 5, 7, 10, 15, 20, 25, 30, 35) if time < now]
        assert chosen == sorted({*known, now - 1})
        assert set(kept) == set(chosen)


def test_a_memory_of_every_nth_frame_grows_in_steps_up_to_its_size():
    settings = MemorySpec('every_n', size=30, capacity=30)
    slots = [settings.num_slots_for(count) for count in (1, 5, 6, 11, 21, 30)]
    assert slots == [5, 5, 10, 20, 30, 30]
    assert MemorySpec('sample', size=6).num_slots_for(1) == 6


@pytest.mark.parametrize(
    ('settings', 'line'),
    [
        ({'policy': 'all'}, "'inference.memory.policy' is 'all'; one of 'sample', 'first'"),
        ({'size': 1}, "'inference.memory.size' is 1; needed: a whole number from 2"),
        ({'every': 0}, "'inference.memory.every' is 0; needed: a whole number from 1"),
        ({'size': 6, 'capacity': 5}, "'inference.memory.capacity' is 5; needed: at least 6"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings, line):
    with pytest.raises(InputError, match=line):
        read(MemorySpec, settings, 'inference.memory')
