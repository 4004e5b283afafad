"""Scores a model on held-out sequences while it trains."""

import concurrent.futures
import itertools

import cv2
import numpy as np

from vos_jax.data.masks import object_ids
from vos_jax.data.mixture import describe, list_usable
from vos_jax.data.overlay import overlay, side_by_side
from vos_jax.errors import InputError
from vos_jax.evaluation import metrics
from vos_jax.evaluation.scoring import deal
from vos_jax.evaluation.segmenting import FreeLanes, Stopped, follow, grouped


class HeldOut:
    """J, F and J&F of the sequences of one or more held-out splits.

    The sequences are listed and checked when this is made, before long work starts.
    """

    def __init__(self, spec):
        """`spec`: EvaluationSpec, `config.evaluation`."""
        self._tasks = [
            _Task(source.name, sequence, spec.max_frames)
            for source in spec.sources
            for sequence in list_usable(source)[: spec.max_sequences or None]
        ]

    def listing(self):
        """What each source holds, as text by its setting, for processes to compare."""
        return {
            f'in evaluation.sources.{name}': describe([t for t in self._tasks if t.source == name])
            for name in dict.fromkeys(task.source for task in self._tasks)
        }

    def __call__(self, lanes, share=(0, 1), gather=lambda found: [found], is_stopped=bool):
        """Segments and scores.

        Args:
          lanes: a `runner.Lane` for each device of this process.
          share: number of this process and of all, which share the sequences.
          gather: function of what this process has found that gives a list of what each has.
          is_stopped: asked before each sequence and after each frame; then the rest is left.

        Returns:
          scores: {'jf': mean over the sources, 'jf/NAME': ..., 'j/NAME': ..., 'f/NAME': ...},
            fractions. images: {'panel_NAME': u8[H, W', 3]}: frame, truth and prediction in the
            middle of the source's first sequence. Or None where a process was stopped.
        """
        lengths = [len(task.stems) for task in self._tasks]
        own = deal(self._tasks, lengths, share[1])[share[0]]
        free = FreeLanes(lanes)

        def go_on(*_):
            if is_stopped():
                raise Stopped

        def score(tasks):
            found = [{} for _ in tasks]
            with free.one() as lane:
                go_on()
                follow(lane, tasks, [labels.__setitem__ for labels in found], go_on)
            return [self._score(task, list(one.values())) for task, one in zip(tasks, found)]

        # While one thread of two scores, the other has the lane.
        with concurrent.futures.ThreadPoolExecutor(2 * len(lanes)) as threads:
            try:
                groups = grouped(own, len(lanes[0].segmenters))
                part = dict(itertools.chain.from_iterable(threads.map(score, groups)))
            except Stopped:
                part = None
        parts = gather(part)
        if any(part is None for part in parts):
            return None
        return self._summary({key: values for part in parts for key, values in part.items()})

    def _summary(self, found):
        """Scores and images of all, from (SequenceScores, panel) by source and name."""
        scores, images = {}, {}
        for name in dict.fromkeys(task.source for task in self._tasks):
            own = {task.name: found[task.key] for task in self._tasks if task.source == name}
            images[f'panel_{name}'] = next(iter(own.values()))[1]
            summary = metrics.summarise({key: result for key, (result, _) in own.items()})
            scores[f'jf/{name}'] = summary.jf
            scores[f'j/{name}'], scores[f'f/{name}'] = summary.J.mean, summary.F.mean
        jf = [value for key, value in scores.items() if key.startswith('jf/')]
        return {'jf': float(np.mean(jf)), **scores}, images

    def _score(self, task, found):
        """Key, and (SequenceScores, panel of the first of a source) of a sequence."""
        truth = [task.read_given(stem) for stem in task.stems]
        scores = metrics.score_sequence(found, truth, metrics.count_objects(truth[0]))
        is_first = task is next(one for one in self._tasks if one.source == task.source)
        return task.key, (scores, _panel(task, truth, found) if is_first else None)


class _Task:
    """A held-out sequence as `segmenting` takes a Task: of its masks the first one is shown."""

    def __init__(self, source, sequence, max_frames):
        self.sequence, self.source, self.name = self, source, sequence.name
        self.key, self.size = (source, sequence.name), sequence.size
        self.stems = self.required = sequence.stems[: max_frames or None]
        self.given = self.stems[:1]
        self.read_frame, self.read_given = sequence.read_frame, sequence.read_labels
        self.ids = object_ids(self.read_given(self.stems[0]))
        if not len(self.ids):  # would leave the mean without a word
            raise InputError(
                f'{sequence.masks[self.stems[0]]}: no object in it, but it is the mask that '
                'says which objects of a held-out sequence to follow; draw one, or take the '
                'sequence off the list'
            )


def _panel(task, truth, found, height_px=240):
    middle = len(found) // 2
    frame = task.read_frame(middle)
    images = [frame, overlay(frame, truth[middle]), overlay(frame, found[middle])]
    width_px = round(frame.shape[1] * height_px / frame.shape[0])
    return side_by_side(
        [cv2.resize(x, (width_px, height_px), interpolation=cv2.INTER_AREA) for x in images]
    )
