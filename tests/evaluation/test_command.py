"""evaluate.py without a model: masks of any program, comparisons, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EVALUATE = str(Path(__file__).resolve().parents[2] / 'evaluate.py')


@pytest.fixture
def data(make_davis, draw):
    return make_davis({'dog': draw(5, ids=(1, 2)), 'owl': draw(4)})


@pytest.fixture
def masks(tmp_path, draw, save_masks):
    save_masks(tmp_path / 'masks/dog', draw(5, ids=(1, 2), speed=3))
    save_masks(tmp_path / 'masks/owl', draw(4, speed=3))
    return tmp_path / 'masks'


def score(evaluate, masks, data, out, *flags, protocol='davis2017'):
    where = (f'--results={masks}', f'--data={data}', f'--protocol={protocol}', f'--out={out}')
    return evaluate(*where, *flags)


def assert_refused(result, *parts):
    """One line on stderr, exit code 2."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def test_csv_files_of_the_record_are_equal_byte_for_byte(shared, evaluate, tmp_path):
    root = shared('parity/metrics/val/expected/global_results-val.csv').parents[1]
    result = score(evaluate, root / 'predictions', root, tmp_path / 'out', '--noreport')
    assert result.returncode == 0, result.stderr
    for expected in (root / 'expected').glob('*.csv'):
        assert (tmp_path / 'out' / expected.name).read_bytes() == expected.read_bytes()
    assert 'J&F-Mean' in result.stdout
    assert '3 objects are in no scored mask: dropped-object_2' in result.stdout


def test_results_json_of_the_record_has_its_numbers(shared, evaluate, tmp_path):
    root = shared('parity/metrics/val/expected/global_results-val.csv').parents[1]
    score(evaluate, root / 'predictions', root, tmp_path / 'out', '--noreport')
    scores = json.loads((tmp_path / 'out/results.json').read_text())['scores']
    stats = json.loads((root / 'expected/stats.json').read_text())['global']
    assert scores == pytest.approx({key: stats[key] for key in scores}, abs=1e-6)


def test_davis2016_of_the_record(shared, evaluate, tmp_path):
    root = shared('parity/metrics/davis2016')
    names = sorted(path.name for path in (root / 'Annotations/480p').iterdir())
    (tmp_path / 'ImageSets/2016').mkdir(parents=True)
    (tmp_path / 'ImageSets/2016/val.txt').write_text('\n'.join(names))
    (tmp_path / 'Annotations').symlink_to(root / 'Annotations')
    result = score(evaluate, root / 'predictions', tmp_path, tmp_path / 'out', protocol='davis2016')
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / 'out/results.json').read_text())['scores']
    stats = json.loads((root / 'expected/stats.json').read_text())['global']
    assert scores['J-Mean'] == pytest.approx(stats['J']['mean'], abs=1e-6)
    assert scores['F-Decay'] == pytest.approx(stats['F']['decay'], abs=1e-6)


# What the official tool refuses with exit status 0, or fails on, and what is said here.
BAD = {
    'extra-id': 'id 3 is no object',
    'values-0-255': '--form=binary',
    'rgb': 'colour image',
    'wrong-size': 'mask of size 32x24',
    'one-frame-wrong-size': '00004.png: mask of size 32x24',
    'missing-frame': '00004.png: this mask is missing',
    'void-in-prediction': 'value 255 is no object',
}


def bad_data(root, case, folder):
    """A data set of the one sequence of a case."""
    (name,) = (path.name for path in (root / 'bad' / case).iterdir())
    (folder / 'ImageSets/2017').mkdir(parents=True)
    (folder / 'ImageSets/2017/val.txt').write_text(f'{name}\n')
    (folder / 'Annotations').symlink_to(root / 'val/Annotations')
    return folder


@pytest.mark.parametrize('case', BAD)
def test_what_the_official_tool_fails_on_is_one_line(shared, evaluate, tmp_path, case):
    root = shared('parity/metrics')
    data = bad_data(root, case, tmp_path / 'data')
    result = score(evaluate, root / 'bad' / case, data, tmp_path / 'out')
    assert_refused(result, BAD[case], f'bad/{case}/')


@pytest.mark.parametrize('case', ['extra-id-in-first-and-last', 'missing-first-and-last'])
def test_the_first_and_the_last_mask_are_never_read(shared, evaluate, tmp_path, case):
    root = shared('parity/metrics')
    data = bad_data(root, case, tmp_path / 'data')
    result = score(evaluate, root / 'bad' / case, data, tmp_path / 'out', '--noreport')
    assert result.returncode == 0, result.stderr
    expected = json.loads((root / 'bad/expected.json').read_text())
    expected = expected['extra-id-in-first-and-last']['global']
    scores = json.loads((tmp_path / 'out/results.json').read_text())['scores']
    assert {key: round(value, 3) for key, value in scores.items()} == expected


def test_scoring_and_comparing_load_neither_jax_nor_flax(data, masks, tmp_path):
    code = (
        'import runpy, sys\n'
        'try:\n'
        f'    runpy.run_path({EVALUATE!r}, run_name="__main__")\n'
        'except SystemExit as end:\n'
        '    assert not end.code, end.code\n'
        'print("loaded:", sorted({"jax", "flax", "tensorflow", "torch"} & set(sys.modules)))\n'
    )
    runs = [
        [f'--results={masks}', f'--data={data}', '--protocol=davis2017', f'--out={tmp_path}/a'],
        [f'--compare={tmp_path}/a,{tmp_path}/a/results.json', f'--out={tmp_path}/b'],
    ]
    shutil.copytree(masks, tmp_path / 'again')
    runs.insert(
        1,
        [f'--results={tmp_path}/again', *runs[0][1:3], f'--out={tmp_path}/c'],
    )
    runs[-1][0] = f'--compare={tmp_path}/a,{tmp_path}/c'
    for flags in runs:
        result = subprocess.run(
            [sys.executable, '-c', code, *flags], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == 'loaded: []'


def test_a_comparison_prints_the_difference_and_its_interval(data, masks, evaluate, tmp_path):
    score(evaluate, masks, data, tmp_path / 'fast')
    score(evaluate, data / 'Annotations/480p', data, tmp_path / 'truth')
    result = evaluate(f'--compare={tmp_path}/fast,{tmp_path}/truth', f'--out={tmp_path}/both')
    assert result.returncode == 0, result.stderr
    assert 'J&F of truth - fast: +' in result.stdout
    written = json.loads((tmp_path / 'both/comparison.json').read_text())
    assert written['intervals'][0]['low'] > 0
    assert (tmp_path / 'both/pictures/run1/dog/00001.png').is_file()


def test_extra_ids_are_dropped_on_request(data, masks, evaluate, tmp_path, draw, save_masks):
    save_masks(masks / 'owl', draw(4, ids=(1, 2)))
    assert_refused(score(evaluate, masks, data, tmp_path / 'out'), 'owl/00001.png: id 2')
    result = score(evaluate, masks, data, tmp_path / 'out', '--extra-ids=drop', '--noreport')
    assert result.returncode == 0, result.stderr
    assert 'owl: J&F 100.0, 1 object' in result.stdout


def test_one_bad_mask_keeps_the_sequences_that_are_scored(
    data, masks, evaluate, tmp_path, draw, save_masks
):
    out = tmp_path / 'out'
    save_masks(masks / 'owl', draw(4, ids=(1, 9)))
    flags = (masks, data, out, '--noreport', '--workers=1')
    assert_refused(score(evaluate, *flags), 'owl/00001.png: id 9 is no object')
    assert [path.name for path in out.iterdir()] == ['scored.json']
    save_masks(masks / 'owl', draw(4, speed=3))
    again = score(evaluate, *flags)
    assert '1 of 2 sequences are scored already' in again.stdout
    assert not (out / 'scored.json').exists()
    fresh = score(evaluate, masks, data, tmp_path / 'fresh', '--noreport')
    assert 'already' not in fresh.stdout
    for name in ('global_results-val.csv', 'per-sequence_results-val.csv'):
        assert (out / name).read_bytes() == (tmp_path / 'fresh' / name).read_bytes()


def test_kept_scores_of_masks_that_have_changed_are_not_used(
    data, masks, evaluate, tmp_path, draw, save_masks
):
    save_masks(masks / 'owl', draw(4, ids=(1, 9)))
    flags = (masks, data, tmp_path / 'out', '--noreport', '--workers=1')
    assert score(evaluate, *flags).returncode == 2
    save_masks(masks / 'owl', draw(4))
    save_masks(masks / 'dog', draw(5, ids=(1, 2)))
    again = score(evaluate, *flags)
    assert 'already' not in again.stdout
    scores = json.loads((tmp_path / 'out/results.json').read_text())['scores']
    assert scores['J&F-Mean'] == 1


def test_proc_cannot_hold_results(data, masks, evaluate):
    assert_refused(score(evaluate, masks, data, '/proc/nobody'), '/proc/nobody: cannot be written')


@pytest.mark.parametrize(
    ('flags', 'parts'),
    [
        ((), ('need one of --weights, --workdir, --results, --compare',)),
        (('--results=x', '--weights=y'), ('given: --weights, --results',)),
        (('--results=/nowhere',), ('/nowhere: no such folder',)),
        (('--results=.',), ('--protocol is missing',)),
        (('--results=.', '--protocol=davis2017'), ('--data is missing',)),
        (('--results=.', '--protocol=davis2018'), ('davis2018', 'davis2016|davis2017')),
        (('--results=.', '--protocol=davis2017', '--data=/nowhere'), ('/nowhere',)),
        (('--compare=a',), ('need two runs or more',)),
        (('--compare=a,b',), ('a/results.json: no such file',)),
        (('--weights=/none.npz', '--protocol=davis2017'), ('--data is missing',)),
        (('dog',), ('dog: unexpected argument',)),
        (('--no-such-flag=1',), ('no-such-flag',)),
    ],
)
def test_wrong_flags_are_one_line(evaluate, tmp_path, flags, parts):
    result = evaluate(*flags, *([] if '--out' in flags else [f'--out={tmp_path}/out']))
    assert result.returncode == 2, result.stderr
    for part in parts:
        assert part in result.stderr


def test_a_folder_above_the_data_set_is_refused(data, masks, evaluate, tmp_path):
    assert_refused(score(evaluate, masks, data.parent, tmp_path / 'out'), 'Annotations')


def test_a_full_disk_is_one_line(data, masks, tmp_path):
    # A limit on the size of files stands for a full disk.
    code = (
        'import resource, runpy; '
        'resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)); '
        f'runpy.run_path({EVALUATE!r}, run_name="__main__")'
    )
    flags = [f'--results={masks}', f'--data={data}', '--protocol=davis2017']
    result = subprocess.run(
        [sys.executable, '-c', code, *flags, f'--out={tmp_path}/out'],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert_refused(result, f'{tmp_path}/out: cannot be written (File too large)')
    assert not any((tmp_path / 'out').rglob('*'))  # nothing half-written
