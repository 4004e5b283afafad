"""Scores a model on held-out sequences while it trains."""

import concurrent.futures
import functools
import queue

import cv2
import numpy as np

from vos_jax.data.masks import object_ids
from vos_jax.data.mixture import list_usable
from vos_jax.data.overlay import overlay, side_by_side
from vos_jax.errors import InputError
from vos_jax.evaluation import metrics
from vos_jax.evaluation.sharing import deal
from vos_jax.inference import runner


class HeldOut:
    """J, F and J&F of the sequences of one or more held-out splits.

    The sequences are listed and checked when this is made, before long work starts.
    """

    def __init__(self, spec):
        """
        Args:
          spec: EvaluationSpec, `config.evaluation`.
        """
        self._max_frames = spec.max_frames
        self._sources = {
            source.name: list_usable(source)[: spec.max_sequences or None]
            for source in spec.sources
        }
        for sequences in self._sources.values():
            for sequence in sequences:
                _check_first(sequence)

    def __call__(self, segmenters, share=(0, 1), gather=lambda found: [found], is_stopped=bool):
        """Segments and scores.

        Args:
          segmenters: for each device of this process (segmenter, context): an object with
            `start(frame, masks)` and `step(frame)`, best a lazy one, and a function that gives what
            the thread that uses it must enter.
          share: number of this process and of all, which share the sequences.
          gather: function of what this process has found that gives a list of what each has.
          is_stopped: asked before each sequence; then the rest is left.

        Returns:
          scores: {'jf': mean over the sources, 'jf/NAME': ..., 'j/NAME': ..., 'f/NAME': ...},
            fractions. images: {'panel_NAME': u8[H, W', 3]}: frame, truth and prediction in the
            middle of the source's first sequence. Or None where it was stopped.
        """
        every = [(name, s) for name, sequences in self._sources.items() for s in sequences]
        own = deal(every, [self._length(sequence) for _, sequence in every], share[1])[share[0]]
        free = queue.SimpleQueue()
        for one in segmenters:
            free.put(one)

        def score(item):
            if is_stopped():
                return None
            segmenter, context = free.get()
            try:
                with context():
                    return self._score(segmenter, *item)
            finally:
                free.put((segmenter, context))

        with concurrent.futures.ThreadPoolExecutor(len(segmenters)) as threads:
            parts = list(threads.map(score, own))
        found = {}
        for part in gather(parts):
            if None in part:
                return None
            found |= {key: values for key, *values in part}
        return self._summary(found)

    def _summary(self, found):
        """Scores and images of all, from [SequenceScores, panel] by source and name."""
        scores, images = {}, {}
        for name, sequences in self._sources.items():
            results = {s.name: found[name, s.name][0] for s in sequences}
            images[f'panel_{name}'] = found[name, sequences[0].name][1]
            summary = metrics.summarise(results)
            scores[f'jf/{name}'] = summary.jf
            scores[f'j/{name}'], scores[f'f/{name}'] = summary.J.mean, summary.F.mean
        jf = [value for key, value in scores.items() if key.startswith('jf/')]
        return {'jf': float(np.mean(jf)), **scores}, images

    def _length(self, sequence):
        return len(sequence.stems[: self._max_frames or None])

    def _score(self, segmenter, source, sequence):
        """Key, SequenceScores and panel (of the first of a source, else None) of a sequence."""
        frames, truth, found = self._segment(segmenter, sequence)
        scores = metrics.score_sequence(found, truth, metrics.count_objects(truth[0]))
        is_first = sequence is self._sources[source][0]
        return (source, sequence.name), scores, _panel(frames, truth, found) if is_first else None

    def _segment(self, segmenter, sequence):
        """Frames, true and found ids of a sequence."""
        stems = sequence.stems[: self._max_frames or None]
        frames, truth, found = [], [sequence.read_labels(stem) for stem in stems], []

        def advance(frame):
            frames.append(frame)
            first = len(frames) == 1
            labels = segmenter.start(frame, truth[0]) if first else segmenter.step(frame)
            return functools.partial(np.asarray, labels)

        read = (sequence.read_frame(index) for index in range(len(stems)))
        for _ in runner.drive(read, advance, lambda _, labels: found.append(labels)):
            pass
        return frames, truth, found


def _check_first(sequence):
    """A sequence whose first mask is empty would leave the mean without a word."""
    stem = sequence.stems[0]
    if not len(object_ids(sequence.read_labels(stem))):
        raise InputError(
            f'{sequence.mask_name(stem)}: no object in it, but it is the mask that says which '
            'objects of a held-out sequence to follow; draw one, or take the sequence off the list'
        )


def _panel(frames, truth, found, height_px=240):
    middle = len(frames) // 2
    frame = frames[middle]
    images = [frame, overlay(frame, truth[middle]), overlay(frame, found[middle])]
    width_px = round(frame.shape[1] * height_px / frame.shape[0])
    return side_by_side(
        [cv2.resize(x, (width_px, height_px), interpolation=cv2.INTER_AREA) for x in images]
    )
