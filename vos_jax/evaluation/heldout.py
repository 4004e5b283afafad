"""Scores a model on held-out sequences while it trains."""

import functools

import cv2
import numpy as np

from vos_jax.data.masks import object_ids
from vos_jax.data.mixture import list_usable
from vos_jax.data.overlay import overlay, side_by_side
from vos_jax.errors import InputError
from vos_jax.evaluation import metrics
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

    def __call__(self, segmenter):
        """Segments and scores.

        Args:
          segmenter: object with `start(frame, masks)` and `step(frame)`; best a lazy one.

        Returns:
          scores: {'jf': mean over the sources, 'jf/NAME': ..., 'j/NAME': ..., 'f/NAME': ...},
            fractions. images: {'panel_NAME': u8[H, W', 3]}: frame, truth and prediction in the
            middle of the source's first sequence.
        """
        scores, images = {}, {}
        for name, sequences in self._sources.items():
            results = {}
            for sequence in sequences:
                frames, truth, found = self._segment(segmenter, sequence)
                num_objects = metrics.count_objects(truth[0])
                results[sequence.name] = metrics.score_sequence(found, truth, num_objects)
                if f'panel_{name}' not in images:
                    images[f'panel_{name}'] = _panel(frames, truth, found)
            summary = metrics.summarise(results)
            scores[f'jf/{name}'] = summary.jf
            scores[f'j/{name}'], scores[f'f/{name}'] = summary.J.mean, summary.F.mean
        jf = [value for key, value in scores.items() if key.startswith('jf/')]
        return {'jf': float(np.mean(jf)), **scores}, images

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
