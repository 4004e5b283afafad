"""The progress line of long work: how much is done, how fast, how long it will take."""

import sys
import threading
import time

_TERMINAL_S = 0.2


class Progress:
    """Counts what is done; a terminal gets one line that changes, a file a line now and then.

    Its methods may be called by several threads.

    Args:
      unit: what is counted, such as 'videos'; the speed of 'frames' is in FPS.
      total: of them, where known.
      line_every_s: how often a file gets a line; infinity: only those of `line` and `close`.
      stream: default stdout.
      clock: function that gives seconds.
    """

    def __init__(self, unit, total=None, *, line_every_s=10.0, stream=None, clock=time.monotonic):
        self._unit, self._total, self._count = unit, total, 0
        self._stream, self._clock = stream or sys.stdout, clock
        self._changes = self._stream.isatty()
        self._every_s = _TERMINAL_S if self._changes else line_every_s
        self._speed = Speed(total, unit, clock=clock)
        self._shown_s, self._note = clock(), ''
        self._lock = threading.Lock()

    def advance(self, note='', count=1):
        """`count` more are done; `note`: the begin of the line, such as 'frame 00012'."""
        with self._lock:
            self._reach(self._count + count, note)

    def reach(self, count, total=None, note=''):
        """So many are done by now, of a total that may become known only here.

        What the first call says was done before, or at once, and is no measure of the speed.
        """
        with self._lock:
            self._total = total or self._total
            if not self._count:
                self._speed = Speed(self._total, self._unit, count, self._clock)
            self._speed.total = self._total
            self._reach(count, note)

    def line(self, text):
        """Prints a line of its own, such as that of a finished sequence, and the speed."""
        with self._lock:
            self._show(f'{text}  {self._speed.since_start(self._count)}', end='\n')

    def close(self):
        """Prints the line for the last time."""
        with self._lock:
            self._show(self._text(), end='\n')

    def _reach(self, count, note):
        self._count, self._note = count, note
        now_s = self._clock()
        if now_s - self._shown_s >= self._every_s:
            self._shown_s = now_s
            self._show(self._text(), end='\r' if self._changes else '\n')

    def _text(self):
        note = f'{self._note}  ' if self._note else ''
        of = f' of {self._total:,}' if self._total else ''
        speed = self._speed.since_start(self._count)
        return f'{note}{self._count:,}{of} {self._unit}  {speed}'

    def _show(self, text, end):
        clear = '\x1b[K' if self._changes else ''
        print(f'{clear}{text}', end=end, file=self._stream, flush=True)


class Speed:
    """Speed and remaining time as text, since the start or since one asked last.

    Args:
      total: of what is counted, where known.
      unit: of it.
      done: how many were done before.
      clock: function that gives seconds.
    """

    def __init__(self, total=None, unit='steps', done=0, clock=time.monotonic):
        self.total = total
        self._unit, self._clock = 'FPS' if unit == 'frames' else f'{unit}/s', clock
        self._first = self._last = done, clock()

    def since_start(self, count):
        """For work of which `count` is done, as '31.2 FPS  ETA 1 min 02 s'."""
        return self._between(self._first, count, self._clock())

    def since_last(self, count):
        """The same since the call before, or the start."""
        last, self._last = self._last, (count, self._clock())
        return self._between(last, *self._last)

    def _between(self, before, count, now_s):
        rate = (count - before[0]) / max(now_s - before[1], 1e-9)
        text = f'{rate:,.0f}' if rate >= 1000 else f'{rate:.3g}'
        if not self.total:
            return f'{text} {self._unit}'
        eta = duration(max(self.total - count, 0) / rate) if rate else '?'
        return f'{text} {self._unit}  ETA {eta}'


def duration(time_s):
    """Seconds as text with two units at most.

    >>> [duration(x) for x in (7.4, 61, 3 * 3600 + 300, 30 * 3600)]
    ['7 s', '1 min 01 s', '3 h 05 min', '1 d 06 h']
    """
    time_s = round(time_s)
    for big, small, name, part in (
        (86400, 3600, 'd', 'h'),
        (3600, 60, 'h', 'min'),
        (60, 1, 'min', 's'),
    ):
        if time_s >= big:
            return f'{time_s // big} {name} {time_s % big // small:02d} {part}'
    return f'{time_s} s'
