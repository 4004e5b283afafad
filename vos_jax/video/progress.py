"""The progress line: frame, frames per second, remaining time."""

import sys
import time

_TERMINAL_S, _FILE_S = 0.2, 10.0


class Progress:
    """Counts frames; a terminal gets one line that changes, a file a line now and then."""

    def __init__(self, total=None, stream=None):
        """
        Args:
          total: frames to come, or None where the video does not say.
          stream: default stdout.
        """
        self._total, self._count = total, 0
        self._stream = stream or sys.stdout
        self._changes = self._stream.isatty()
        self._start_s = self._shown_s = time.monotonic()

    def frame(self, name):
        """One more frame is done."""
        self._count += 1
        now_s = time.monotonic()
        if now_s - self._shown_s >= (_TERMINAL_S if self._changes else _FILE_S):
            self._shown_s = now_s
            self._show(name, now_s, end='\r' if self._changes else '\n')

    def close(self, name):
        """Ends the line with the last frame."""
        self._show(name, time.monotonic(), end='\n')

    def _show(self, name, now_s, end):
        fps = self._count / max(now_s - self._start_s, 1e-9)
        of = f'/{self._total}' if self._total else ''
        clear = '\x1b[K' if self._changes else ''
        line = f'{clear}frame {name}  {self._count}{of}  {fps:.3g} FPS{self._eta(fps)}'
        print(line, end=end, file=self._stream, flush=True)

    def _eta(self, fps):
        if not self._total or not fps:
            return ''
        minutes, seconds = divmod(round(max(self._total - self._count, 0) / fps), 60)
        return f'  ETA {minutes}:{seconds:02d}'
