"""The benchmark of the loader runs and reports what it measured."""

import json

import pytest


@pytest.mark.long
def test_the_benchmark_writes_its_figures(run_python, tmp_path):
    code = 'import runpy; runpy.run_module("benchmarks.data", run_name="__main__")'
    result = run_python(code, '--clips=40', '--workers=0,1', f'--json={tmp_path / "figures.json"}')
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / 'figures.json').read_text())
    clip = figures['cpu_ms_per_clip']
    assert figures['loader_to_floor'] == pytest.approx(clip['loader'] / clip['floor'])
    assert set(figures['workers']) == {'0', '1'}
    assert all(row['clips_per_s'] > 0 for row in figures['workers'].values())
