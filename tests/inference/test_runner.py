"""The runner, on a device that is a list: what is handed over, waited for and written when."""

import threading

import pytest

from vos_jax.inference.runner import Keeping, Watch, drive, rounds


class Device:
    """Squares numbers; notes what it is asked in which order."""

    def __init__(self):
        self.asked, self.last = [], None

    def advance(self, frame):
        self.asked.append(('hand over', frame))
        self.last = frame

        def result():
            self.asked.append(('wait', frame))
            return frame**2

        return result


@pytest.fixture
def device():
    return Device()


def test_the_next_frame_is_handed_over_before_a_result_is_waited_for(device):
    written = []
    done = list(drive(range(3), device.advance, lambda *result: written.append(result)))
    assert done == [0, 1, 2]
    assert written == [(0, 0), (1, 1), (2, 4)]
    assert device.asked == [
        ('hand over', 0),
        ('hand over', 1),
        ('wait', 0),
        ('hand over', 2),
        ('wait', 1),
        ('wait', 2),
    ]


def test_frames_of_an_earlier_run_are_written_in_order_and_not_computed(device):
    written = []
    frames = drive(
        range(5),
        device.advance,
        lambda *result: written.append(result),
        is_done=lambda frame: frame <= 2,
    )
    assert list(frames) == [0, 1, 2, 3, 4]
    assert written == [(0, None), (1, None), (2, None), (3, 9), (4, 16)]
    assert ('hand over', 2) not in device.asked


def test_a_state_is_that_of_its_frame_and_written_after_its_result(device):
    written = []
    keeping = Keeping(0, lambda: device.last, lambda *kept: written.append(('state', *kept)))
    list(drive(range(3), device.advance, lambda *result: written.append(result), keeping=keeping))
    assert written == [(0, 0), ('state', 0, 0), (1, 1), ('state', 1, 1), (2, 4), ('state', 2, 2)]


def test_after_a_stop_nothing_more_is_written(device):
    done = []
    for frame in drive(
        range(9), device.advance, lambda *_: None, is_stopped=lambda: len(done) == 3, write_behind=0
    ):
        done.append(frame)
    assert done == [0, 1, 2]


def test_without_writing_behind_a_result_is_written_when_its_frame_comes(device):
    written = {}
    threads = set()

    def write(frame, result):
        written[frame] = result
        threads.add(threading.current_thread())

    for frame in drive(range(4), device.advance, write, write_behind=0):
        assert written[frame] == frame**2
    assert threads == {threading.current_thread()}


def test_an_error_of_each_part_is_raised_and_the_threads_end(device):
    def fail(*_):
        raise OSError('broken')

    def frames():
        yield 0
        fail()

    before = threading.active_count()
    for arguments in (
        (frames(), device.advance, lambda *_: None),
        (range(9), fail, lambda *_: None),
        (range(9), lambda frame: fail, lambda *_: None),
        (range(9), device.advance, fail),
    ):
        with pytest.raises(OSError, match='broken'):
            list(drive(*arguments))
        assert threading.active_count() == before


def test_each_computed_frame_has_its_time_and_reports_compilation(device):
    found = []
    watch = Watch(lambda *measured: found.append(measured), lambda: len(seen))
    seen = []

    def compiling(frame):
        if frame == 3:
            seen.append('a program')
        return device.advance(frame)

    list(drive(range(6), compiling, lambda *_: None, watch=watch, is_done=lambda f: f == 0))
    assert [frame for frame, _, _ in found] == [1, 2, 3, 4, 5]
    assert all(seconds >= 0 for _, seconds, _ in found)
    # Frame 3 is handed over, and compiled, while frame 2 is waited for.
    assert [compiled for _, _, compiled in found] == [False, True, False, False, False]


def test_where_a_video_ends_the_next_begins():
    found = list(rounds([range(2), range(0), range(3), range(1), range(1)], most=2))
    assert found == [
        [(0, 0), (2, 0)],
        [(0, 1), (2, 1)],
        [(2, 2), (3, 0)],
        [(4, 0)],
    ]
    assert list(rounds([], most=2)) == []
