"""The picture of accuracy and speed against the number of objects."""

from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import objects
from vos_jax.evaluation.metrics import SequenceScores
from vos_jax.evaluation.results import Results
from vos_jax.evaluation.scoring import SequenceResult


def sequence(name, values):
    """Scores of a sequence whose J and F are the same in both frames, an object each."""
    scores = np.repeat(np.array(values)[:, None], 2, axis=1)
    ids = tuple(range(1, len(values) + 1))
    measures = SequenceScores(scores, scores)
    return SequenceResult(name, ids, ('00001', '00002'), measures, 0 * scores, ())


def test_accuracy_is_the_mean_over_objects_of_videos_with_so_many():
    found = Results({}, (sequence('a', [0.5]), sequence('b', [0.2, 0.4]), sequence('b', [0.7])))
    assert objects.accuracy(found) == {1: (pytest.approx(60), 2), 2: (pytest.approx(30), 2)}


def test_a_line_is_drawn_through_what_was_measured():
    rows = [
        ('STM', 1, 100, None, None),
        ('STM', 2, 200, None, None),
        ('CFBI', 1, 400, 60.0, 7),
        ('CFBI', 4, None, 30.0, 4),
    ]
    picture = ElementTree.fromstring(objects.draw(rows))
    lines = [line.get('points') for line in picture.findall('{*}polyline') if line.get('points')]
    # Speed of STM and of CFBI up to 2 objects and 400 ms, then the J&F of CFBI up to 4 and 60.
    assert lines == ['210.0,180.0 360.0,130.0', '210.0,30.0', '525.0,30.0 750.0,130.0']
