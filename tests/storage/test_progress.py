"""The progress line: what is at hand, how much, how fast, how long."""

import io

import pytest

from vos_jax.storage.progress import Progress, Speed


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_a_file_gets_a_line_now_and_then():
    stream, clock = io.StringIO(), Clock()
    progress = Progress('frames', 100, stream=stream, clock=clock)
    for number in range(25):
        clock.now_s += 1
        progress.advance(f'frame {number:05d}')
    progress.close()
    assert stream.getvalue().splitlines() == [
        'frame 00009  10 of 100 frames  1 FPS  ETA 1 min 30 s',
        'frame 00019  20 of 100 frames  1 FPS  ETA 1 min 20 s',
        'frame 00024  25 of 100 frames  1 FPS  ETA 1 min 15 s',
    ]


def test_a_terminal_gets_one_line_that_changes():
    stream, clock = Terminal(), Clock()
    progress = Progress('frames', 3, stream=stream, clock=clock)
    for _ in range(3):
        clock.now_s += 1
        progress.advance()
    progress.close()
    lines = stream.getvalue().split('\r')
    assert len(lines) == 4
    assert lines[-1] == '\x1b[K3 of 3 frames  1 FPS  ETA 0 s\n'


def test_a_line_of_its_own_ends_with_the_speed():
    stream, clock = io.StringIO(), Clock()
    progress = Progress('frames', 20, stream=stream, clock=clock)
    clock.now_s = 5
    progress.advance('dog', count=10)
    progress.line('[1/2] dog: J&F 80.0')
    assert stream.getvalue() == '[1/2] dog: J&F 80.0  2 FPS  ETA 5 s\n'


def test_what_was_done_before_does_not_count_as_speed():
    stream, clock = io.StringIO(), Clock()
    progress = Progress('bytes', stream=stream, clock=clock)
    progress.reach(10_000, total=20_000)
    clock.now_s = 2
    progress.reach(12_000)
    progress.close()
    assert stream.getvalue() == '12,000 of 20,000 bytes  1,000 bytes/s  ETA 8 s\n'


def test_an_unknown_total_has_no_remaining_time():
    stream, clock = io.StringIO(), Clock()
    progress = Progress('frames', None, stream=stream, clock=clock)
    clock.now_s = 2
    progress.advance()
    progress.close()
    assert stream.getvalue() == '1 frames  0.5 FPS\n'


@pytest.mark.parametrize(('count', 'text'), [(0, '0 steps/s  ETA ?'), (10, '5 steps/s  ETA 18 s')])
def test_speed_since_the_start(count, text):
    clock = Clock()
    speed = Speed(100, clock=clock)
    clock.now_s = 2
    assert speed.since_start(count) == text


def test_speed_since_the_last_time():
    times = iter([0.0, 10.0, 15.0])
    speed = Speed(1000, done=100, clock=lambda: next(times))
    assert speed.since_last(120) == '2 steps/s  ETA 7 min 20 s'
    assert speed.since_last(140) == '4 steps/s  ETA 3 min 35 s'


@pytest.mark.parametrize('step', [5, 9])
def test_where_there_is_nothing_to_measure_the_time_is_unknown(step):
    times = iter([0.0, 1.0])
    assert Speed(9, done=step, clock=lambda: next(times)).since_last(step) == '0 steps/s  ETA ?'
