"""The progress line of long work: how much is done, how fast, how long it will take."""

import sys
import time

_TERMINAL_S, _FILE_S, _WIDTH = 0.2, 10.0, 24


class Progress:
    """A bar: a terminal gets one line that changes, a file a line now and then.

    Args:
      what: is counted, such as 'videos'.
      total: of them, where known from the start.
      stream: default stdout.
    """

    def __init__(self, what, total=None, stream=None):
        self._what, self._total = what, total
        self._stream = stream or sys.stdout
        self._changes = self._stream.isatty()
        self._start_s = self._shown_s = time.monotonic()
        self._count = self._first = 0

    def show(self, count, total=None):
        """Says how much is done by now."""
        if not self._count and count:
            self._first = count  # done before, or at once: no measure of speed
        self._count, self._total = count, total or self._total
        now_s = time.monotonic()
        if now_s - self._shown_s >= (_TERMINAL_S if self._changes else _FILE_S):
            self._shown_s = now_s
            self._print(end='\r' if self._changes else '\n')

    def close(self):
        """Ends the line."""
        self._print(end='\n')

    def _print(self, end):
        passed_s = max(time.monotonic() - self._start_s, 1e-9)
        rate = (self._count - self._first) / passed_s
        text = f'{self._count:,} {self._what}  {rate:,.1f} per s'
        if self._total:
            done = min(self._count / self._total, 1.0)
            bar = ('#' * round(done * _WIDTH)).ljust(_WIDTH, '.')
            text = f'[{bar}] {self._count:,} of {self._total:,} {self._what}  {rate:,.1f} per s'
            if rate:
                minutes, seconds = divmod(round((self._total - self._count) / rate), 60)
                text += f'  ETA {minutes}:{seconds:02d}'
        clear = '\x1b[K' if self._changes else ''
        print(f'{clear}{text}', end=end, file=self._stream, flush=True)
