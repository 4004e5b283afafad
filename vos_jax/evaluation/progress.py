"""The progress of an evaluation: a line that changes with each frame, one for each sequence."""

from vos_jax.evaluation import results as results_files
from vos_jax.evaluation.scoring import SequenceResult
from vos_jax.storage.progress import Progress


class SequenceProgress:
    """Counts frames and sequences; a terminal gets a line that changes, a file one per sequence."""

    def __init__(self, num_sequences: int, num_frames: int, done: int = 0):
        """
        Args:
          num_sequences: of the whole run.
          num_frames: still to segment.
          done: sequences that were finished before.
        """
        self._num_sequences, self._done = num_sequences, done
        self._line = Progress('frames', num_frames, line_every_s=None)

    def frame(self, name: str, index: int, total: int) -> None:
        """One more frame is segmented: number `index` of `total` of the sequence `name`."""
        self._line.advance(f'{name}  frame {index + 1}/{total}')

    def sequence(self, result: SequenceResult) -> None:
        """One more sequence is scored and recorded."""
        self._done += 1
        self._line.line(format_sequence(result, self._done, self._num_sequences))


def format_sequence(result: SequenceResult, done: int, total: int) -> str:
    """One line on a finished sequence."""
    objects = f'{len(result.ids)} object{"s" if len(result.ids) != 1 else ""}'
    if not result.scores.J.size:
        return f'[{done}/{total}] {result.name}: {objects}'
    mean = results_files.sequence_mean(result)
    return f'[{done}/{total}] {result.name}: J&F {100 * mean:.1f}, {objects}'
