import json

import pytest

from tests.video import samples

TINY = ('--config=configs/giel_small.py:tiny', '--size=64x48')


def figures(path):
    return json.loads(path.read_text())


def test_inference_writes_a_row_for_each_number_of_objects(run_command, bare, tmp_path):
    out = tmp_path / 'figures.json'
    command = ('-m', 'benchmarks.inference', *TINY, '--objects=1', '--frames=2', f'--out={out}')
    result = run_command(*command, **bare)
    assert result.returncode == 0, result.stderr
    (row,) = figures(out)['rows']
    assert (row['objects'], row['size']) == (1, '64x48')
    assert row['compile_s'] > row['ms'] / 1000 > 0
    assert row['peak_mb'] > 50  # jax alone is more
    assert f'{row["ms"]:.1f}' in result.stdout


@pytest.mark.long
def test_train_step_writes_a_row_for_each_policy(run_command, tmp_path):
    out = tmp_path / 'figures.json'
    command = ('-m', 'benchmarks.train_step', *TINY, '--steps=1', f'--out={out}')
    result = run_command(*command, '--remat=step,none')
    assert result.returncode == 0, result.stderr
    rows = {row['remat']: row for row in figures(out)['rows']}
    assert rows['step']['planned_mb'] < rows['none']['planned_mb']
    assert rows['none']['s'] > 0


def rows(folder):
    return [json.loads(line) for line in (folder / 'rows.jsonl').read_text().splitlines()]


TRAINED = ('giel_small', 'giel_lite')


@pytest.mark.long
def test_every_part_for_a_gpu_runs_on_a_bare_machine(run_command, bare, tmp_path):
    result = run_command('-m', 'benchmarks.gpu', '--tiny', f'--out={tmp_path}', **bare)
    ours = [row for row in rows(tmp_path) if 'pytorch' not in row['part']]
    assert {row['part'] for row in ours} == {
        'ceilings', 'tests', 'giel', 'training', 'others', 'matching', 'operations', *TRAINED,
        'giel_float32',
    }  # fmt: skip
    errors = [row for row in ours if 'error' in row and row['part'] not in TRAINED]
    assert [row['what'] for row in errors] == ['more memory than there is'], result.stderr
    (tests,) = [row for row in ours if row.get('what') == 'tests marked gpu']
    assert 'skipped' in tests['summary']


@pytest.mark.long
def test_the_last_parts_for_a_gpu_train_score_and_give_weights(run_command, tmp_path):
    parts = f'--parts={",".join(TRAINED)}'
    result = run_command('-m', 'benchmarks.gpu', '--tiny', parts, f'--out={tmp_path}')
    assert result.returncode == 0, result.stderr
    found = {row['what']: row for row in rows(tmp_path) if 'what' in row}
    for name in TRAINED:
        row = found[f'training of {name}']
        assert row['step'] == 6
        assert 0 <= row['evaluation/jf'] <= 1
        assert found[f'weights of {name}']['bytes'] == (tmp_path / f'{name}.npz').stat().st_size


@pytest.mark.slow
def test_memory_that_does_not_suffice_is_a_row_of_the_gpu_benchmark(run_command, tmp_path):
    command = ('-m', 'benchmarks.gpu', '--tiny', '--parts=ceilings', f'--out={tmp_path}')
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    found = {row.get('what'): row for row in rows(tmp_path)}
    assert 'RESOURCE_EXHAUSTED' in found['more memory than there is']['error']
    assert found['matrix product float32']['tflops'] > 0
    assert found['copy']['gb_per_s'] > 0


def test_a_budget_that_is_used_up_leaves_parts_out_by_name(run_command, tmp_path):
    result = run_command('-m', 'benchmarks.gpu', '--tiny', '--budget=1', f'--out={tmp_path}')
    assert result.returncode == 1
    assert {row['error'] for row in rows(tmp_path)} == {'left out: the budget is used up'}


def test_without_a_gpu_the_command_says_so_and_ends(run_command, tmp_path):
    result = run_command('-m', 'benchmarks.gpu', f'--out={tmp_path}', JAX_PLATFORMS='cpu')
    assert result.returncode == 2
    assert result.stderr.startswith('error: no GPU: JAX runs on cpu')
    assert result.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['-m', 'benchmarks.inference', '--config=none.py'], 'none.py: no such file'),
        (['-m', 'benchmarks.inference', *TINY, '--size=9'], '--size=9: needed'),
        (['-m', 'benchmarks.train_step', *TINY, '--remat=some'], "--remat has 'some'"),
    ],
)
def test_wrong_flags_are_one_line(run_command, arguments, told):
    result = run_command(*arguments)
    assert result.returncode == 2
    assert told in result.stderr
    assert result.stderr.count('\n') == 1


def test_the_comparison_says_that_pytorch_is_missing(run_command, bare):
    result = run_command('-m', 'benchmarks.inference', *TINY, '--compare_pytorch=stm', **bare)
    assert result.returncode == 2
    assert "pip install 'vos_jax[torch]'" in result.stderr


@pytest.mark.slow
def test_segment_writes_a_row_for_each_video_size_and_number_of_objects(run_command, tmp_path):
    weights, out = samples.write_weights(tmp_path / 'tiny.npz'), tmp_path / 'figures.json'
    flags = ('--videos=98x66', '--sizes=0', '--objects=2', '--frames=5', '--rounds=1')
    command = ('-m', 'benchmarks.segment', *flags, f'--weights={weights}', f'--out={out}')
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    (row,) = figures(out)['rows']
    assert (row['video'], row['work'], row['objects']) == ('98x66', '98x66', 2)
    assert row['model_fps'] > 0 < row['fps']
    assert row['extra'] == pytest.approx(100 * (row['model_fps'] / row['fps'] - 1), abs=0.1)
