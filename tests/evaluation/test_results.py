import json
import math
from pathlib import Path

import numpy as np
import pytest

from vos_jax.errors import InputError
from vos_jax.evaluation import predictions, protocols, results, scoring


@pytest.fixture
def scored(make_davis, draw, tmp_path, save_masks):
    """Results of two sequences, one of which is predicted with one object too few."""
    root = make_davis({'dog': draw(6, ids=(1, 2)), 'owl': draw(4)})
    save_masks(tmp_path / 'out/dog', draw(6, ids=(1,), speed=3))
    save_masks(tmp_path / 'out/owl', draw(4))
    protocol = protocols.load('davis2017', root)
    sequences = scoring.score_tasks(protocol.tasks, predictions.open_results(tmp_path / 'out'), 1)
    return results.collect(protocol, sequences, {'device': 'none'})


def test_json_gives_back_the_results(scored, tmp_path):
    results.write(scored, tmp_path / 'a')
    read = results.read(tmp_path / 'a')
    assert results.global_scores(read) == results.global_scores(scored)
    assert read.sequences[0].ids == (1, 2)
    np.testing.assert_array_equal(read.sequences[0].area, scored.sequences[0].area)
    assert read.header['device'] == 'none'


def test_csv_files_are_written_as_the_official_tool_does(scored, tmp_path):
    results.write(scored, tmp_path)
    rows = (tmp_path / 'per-sequence_results-val.csv').read_text().splitlines()
    assert rows[0] == 'Sequence,J-Mean,F-Mean'
    assert rows[2] == 'dog_2,0.000,0.000'
    assert rows[3] == 'owl_1,1.000,1.000'
    head, values = (tmp_path / 'global_results-val.csv').read_text().splitlines()
    assert head == 'J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay'
    assert len(values.split(',')) == 7


def test_a_missing_score_is_an_empty_cell(scored):
    empty = np.full((1, 0), math.nan)
    nothing = scoring.SequenceResult(
        'owl', (1,), (), scoring.SequenceScores(empty, empty), empty, ()
    )
    only = results.Results(scored.header, (nothing,))
    assert results.global_csv(only).splitlines()[1] == ',,,,,,'
    assert 'NaN' not in json.dumps(results.to_json(only))


def test_objects_that_are_in_no_prediction_are_named(scored):
    assert results.missing_objects(scored) == ['dog_2']


def test_area_is_the_share_of_the_frame(scored):
    assert results.object_rows(scored)[0]['area'] == pytest.approx(100 / (48 * 64))


def test_seen_and_unseen_categories_weigh_the_same(make_youtube, draw, tmp_path, save_masks):
    root = make_youtube(
        {'a': (draw(4, ids=(1, 2)), {1: 0, 2: 0}), 'b': (draw(4), {1: 0})},
        split='train',
        given_only=False,
        categories={'a': {1: 'dog', 2: 'dog'}, 'b': {1: 'cat'}},
    )
    (tmp_path / 'unseen.txt').write_text('cat\n')
    protocol = protocols.load('youtube_vos_local', root, unseen=tmp_path / 'unseen.txt')
    save_masks(tmp_path / 'out/a', draw(4, ids=(1, 2)), step=5)
    save_masks(tmp_path / 'out/b', draw(4) * 0, step=5)
    sequences = scoring.score_tasks(protocol.tasks, predictions.open_results(tmp_path / 'out'), 1)
    found = results.collect(protocol, sequences, {})
    scores = results.global_scores(found)
    assert (scores['J-seen'], scores['J-unseen'], scores['G']) == (1, 0, 0.5)
    assert scores['J-Mean'] == pytest.approx(2 / 3)
    results.write(found, tmp_path / 'scores')
    assert results.global_scores(results.read(tmp_path / 'scores')) == scores


def test_a_table_aligns_its_columns_and_shows_percent():
    drawn = results.table(('name', 'J'), [('dog', 0.5), ('a long name', math.nan)])
    assert drawn.splitlines() == ['name            J', 'dog          50.0', 'a long name     -']


def test_a_folder_without_results_says_how_to_make_them(tmp_path):
    with pytest.raises(InputError, match='score the masks first with --results='):
        results.read(tmp_path)


@pytest.mark.parametrize('text', ['', '[]', '{"sequences": [{}]}'])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(InputError, match=r'results\.json: '):
        results.read(tmp_path)


def test_scores_do_not_depend_on_the_number_of_processes(make_davis, draw, tmp_path, save_masks):
    root = make_davis({f's{n}': draw(4 + n, ids=(1, 2)) for n in range(3)})
    for n in range(3):
        save_masks(tmp_path / f'out/s{n}', draw(4 + n, ids=(1, 2), speed=3))
    protocol = protocols.load('davis2017', root, need_frames=False)
    masks = predictions.open_results(Path(tmp_path / 'out'))
    found = [
        results.global_scores(
            results.collect(protocol, scoring.score_tasks(protocol.tasks, masks, workers), {})
        )
        for workers in (1, 2)
    ]
    assert found[0] == found[1]
