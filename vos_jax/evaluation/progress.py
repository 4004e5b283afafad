"""The progress line: sequence, frame, FPS, remaining time."""

import sys
import threading
import time

from vos_jax.evaluation import results as results_files
from vos_jax.evaluation.scoring import SequenceResult

_REFRESH_S = 0.2


class Progress:
    """Counts frames and sequences; a terminal gets a line that changes, a file one per sequence."""

    def __init__(self, num_sequences: int, num_frames: int, done: int = 0, stream=None):
        """
        Args:
          num_sequences: of the whole run.
          num_frames: still to segment.
          done: sequences that were finished before.
        """
        self._num_sequences, self._num_frames = num_sequences, num_frames
        self._done, self._frames = done, 0
        self._stream = stream or sys.stdout
        self._changes = self._stream.isatty()
        self._start_s = self._shown_s = time.monotonic()
        self._lock = threading.Lock()

    def frame(self, name: str, index: int, total: int) -> None:
        """One more frame is segmented: number `index` of `total` of the sequence `name`."""
        with self._lock:
            self._frames += 1
            now_s = time.monotonic()
            if self._changes and now_s - self._shown_s > _REFRESH_S:
                self._shown_s = now_s
                self._show(f'{name}  frame {index + 1}/{total}  {self._rate()}', end='\r')

    def sequence(self, result: SequenceResult) -> None:
        """One more sequence is scored and recorded."""
        with self._lock:
            self._done += 1
            line = format_sequence(result, self._done, self._num_sequences)
            self._show(f'{line}  {self._rate()}', end='\n')

    def _rate(self):
        fps = self._frames / max(time.monotonic() - self._start_s, 1e-9)
        remaining_s = (self._num_frames - self._frames) / fps if fps else 0
        minutes, seconds = divmod(round(max(remaining_s, 0)), 60)
        return f'{fps:.1f} FPS  ETA {minutes}:{seconds:02d}'

    def _show(self, text, end):
        clear = '\x1b[K' if self._changes else ''
        print(f'{clear}{text}', end=end, file=self._stream, flush=True)


def format_sequence(result: SequenceResult, done: int, total: int) -> str:
    """One line on a finished sequence."""
    objects = f'{len(result.ids)} object{"s" if len(result.ids) != 1 else ""}'
    if not result.scores.J.size:
        return f'[{done}/{total}] {result.name}: {objects}'
    mean = results_files.sequence_mean(result)
    return f'[{done}/{total}] {result.name}: J&F {100 * mean:.1f}, {objects}'
