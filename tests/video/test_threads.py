"""Reading ahead and writing behind keep the order, overlap, and hand on what goes wrong."""

import threading

import pytest

from vos_jax.storage.overlap import Behind, ahead


def test_items_are_taken_while_the_first_is_in_use():
    taken = threading.Semaphore(0)

    def items():
        for number in range(10):
            taken.release()
            yield number

    stream = ahead(items(), depth=3)
    assert next(stream) == 0
    for _ in range(5):  # the one in use, three ready, and one that waits for room
        assert taken.acquire(timeout=10)
    assert not taken.acquire(blocking=False)
    assert list(stream) == list(range(1, 10))


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError('frame 3 is damaged')

    found = []
    with pytest.raises(ValueError, match='frame 3'):
        found.extend(ahead(items(), depth=8))
    stream = ahead(items(), depth=8)
    assert [next(stream), next(stream)] == [1, 2]


def test_a_reader_that_nobody_follows_ends():
    before = threading.active_count()
    stream = ahead(range(10**9), depth=2)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_calls_are_made_in_order_by_another_thread():
    found = []
    with Behind(depth=2) as behind:
        for number in range(20):
            behind.put(lambda n=number: found.append((n, threading.current_thread())))
    assert [number for number, _ in found] == list(range(20))
    assert {thread for _, thread in found} != {threading.current_thread()}


def test_a_failed_call_is_raised_and_stops_those_after_it():
    found = []

    def fail():
        raise OSError('no space')

    def hand_over():
        with Behind(depth=1) as behind:
            behind.put(fail)
            behind.put(lambda: found.append(1))

    with pytest.raises(OSError, match='no space'):
        hand_over()
    assert not found
