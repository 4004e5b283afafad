import numpy as np
import pytest

from vos_jax.errors import InputError
from vos_jax.evaluation import compare, predictions, protocols, results, scoring


@pytest.fixture
def score(make_davis, draw, tmp_path, save_masks):
    """Returns a function: (run, speed, ...) -> results of masks that move at another speed."""
    lengths = {'dog': 6, 'owl': 5, 'eel': 4}

    def make(name, speed, ids=(1, 2), split='val', lengths=lengths):
        truth = {sequence: draw(length, ids=ids) for sequence, length in lengths.items()}
        root = make_davis(truth, split=split, with_frames=False, root=tmp_path / f'data-{name}')
        for sequence, length in lengths.items():
            save_masks(tmp_path / name / sequence, draw(length, ids=ids, speed=speed))
        protocol = protocols.load('davis2017', root, split, need_frames=False)
        masks = predictions.open_results(tmp_path / name)
        found = results.collect(protocol, scoring.score_tasks(protocol.tasks, masks, 1), {})
        results.write(found, tmp_path / 'scores' / name)
        return found

    return make


def test_a_run_beside_itself_does_not_differ(score):
    run = score('a', 3)
    same = compare.compare(('a', 'b'), (run, run))
    assert same.intervals[0] == compare.Interval(0, 0, 0)
    assert same.frames == ((),)


def test_difference_is_that_of_the_global_scores(score):
    first, second = score('a', 3), score('b', 2)
    interval = compare.bootstrap(first, second)
    gain = results.global_scores(second)['J&F-Mean'] - results.global_scores(first)['J&F-Mean']
    assert interval.difference == pytest.approx(gain)
    assert interval.low < interval.difference < interval.high


def test_exchanging_the_runs_turns_the_interval(score):
    first, second = score('a', 3), score('b', 2)
    there, back = compare.bootstrap(first, second), compare.bootstrap(second, first)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_interval_of_two_sequences_worked_out_by_hand(score):
    # Differences 1 (one object) and 0 (one object): the drawn means are 0, 1/2, 1 with chances
    # 1/4, 1/2, 1/4, so the 2.5 % and 97.5 % quantiles are 0 and 1.
    lengths = {'dog': 4, 'owl': 4}
    wrong = score('a', 2, ids=(1,), lengths=lengths)
    right = score('b', 2, ids=(1,), lengths=lengths)
    for values in (wrong.sequences[0].scores.J, wrong.sequences[0].scores.F):
        values[:] = 0
    interval = compare.bootstrap(wrong, right)
    assert (interval.difference, interval.low, interval.high) == (0.5, 0, 1)


def test_frames_come_with_the_largest_difference_first(score):
    differences = compare.frame_differences(score('a', 2), score('b', 3))
    sizes = [abs(one.difference) for one in differences]
    assert sizes == sorted(sizes, reverse=True)
    assert differences[0].stem > '00001'  # the masks part as time goes on
    assert differences[0].difference < 0


def test_three_runs_are_compared_with_the_first(score, tmp_path):
    for name, speed in (('a', 2), ('b', 3), ('c', 4)):
        score(name, speed)
    three = compare.compare_folders([tmp_path / 'scores' / name for name in 'abc'])
    assert three.names == ('a', 'b', 'c')
    assert len(three.intervals) == 2
    text = compare.format_comparison(three)
    assert 'J&F of c - a' in text
    assert np.shape(compare.comparison_to_json(three)['sequences']) == (3, 4)


def test_names_are_the_shortest_that_differ(score, tmp_path):
    run = score('a', 2)
    for folder in ('x/run', 'y/run'):
        results.write(run, tmp_path / folder)
    both = compare.compare_folders([tmp_path / 'x/run', tmp_path / 'y/run'])
    assert both.names == ('x/run', 'y/run')


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        ({'split': 'train'}, 'split train'),
        ({'ids': (1,)}, 'other frames, objects or annotations'),
        ({'lengths': {'dog': 6, 'owl': 5}}, '2 sequences'),
    ],
)
def test_runs_of_different_data_are_refused(score, tmp_path, other, message):
    score('a', 2)
    score('b', 2, **other)
    with pytest.raises(InputError, match=message):
        compare.compare_folders([tmp_path / 'scores/a', tmp_path / 'scores/b'])


def test_one_run_is_not_a_comparison(score, tmp_path):
    score('a', 2)
    with pytest.raises(InputError, match='two runs or more'):
        compare.compare_folders([tmp_path / 'scores/a'])
