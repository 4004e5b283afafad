"""The comparison with PyTorch: both compute the same, the command writes its figures and a plot."""

import json
import re
import types
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import bars, compare_pytorch, measuring
from benchmarks.contestants import Task
from vos_jax.errors import InputError

COMMAND = ('-m', 'benchmarks.compare_pytorch')
TINY = 'configs/giel_resnet50.py:tiny'


@pytest.mark.long
@pytest.mark.pytorch
def test_inference_is_compared_in_one_command(run_command, tmp_path):
    out = tmp_path / 'giel.json'
    flags = ['--parts=inference', '--size=96x64', '--frames=1', '--pytorch=eager', f'--out={out}']
    result = run_command(*COMMAND, '--model=giel', f'--config={TINY}', *flags)
    assert result.returncode == 0, result.stderr
    ours, its = json.loads(out.read_text())['rows']
    assert (ours['code'], its['code']) == ('vos_jax', 'PyTorch')
    assert its['ratio'] == pytest.approx(its['ms'] / ours['ms'], rel=1e-3)
    assert float(its['difference'].split('%')[0]) < 0.5  # of labels: ties of made-up weights
    for row in (ours, its):
        assert row['ms'] > 0
        assert row['first_s'] > 0
        assert row['peak_mb'] > 50
    drawn = ElementTree.parse(out.with_suffix('.svg')).getroot()
    assert len(drawn.findall('.//{*}rect')) == 6  # two codes: time, memory, first call


@pytest.mark.long
@pytest.mark.pytorch
@pytest.mark.parametrize(
    'task',
    [
        Task('giel', 'training', TINY, 'float32', (48, 64), 2, 1),
        Task('cfbi_matching', 'global, gradient', '', 'float32', (65, 97), 2, 1),
    ],
    ids=['train step', 'matching'],
)
def test_both_codes_compute_the_same(task):
    pytest.importorskip('torch')
    from benchmarks import contestants

    ours, its = (contestants.make(task, code) for code in ('vos_jax', 'eager'))
    np.testing.assert_allclose(ours.result, its.result, rtol=1e-5)
    ours.step()
    its.step()


def test_codes_take_turns_and_change_who_goes_first():
    calls = []
    rows = measuring.take_turns([lambda: calls.append('a'), lambda: calls.append('b')], 3)
    assert calls == ['a', 'b', 'b', 'a', 'a', 'b']
    assert all(row['best_ms'] <= row['ms'] for row in rows)


def test_the_longest_bar_is_the_largest_value(tmp_path):
    rows = [
        {'part': 'p', 'code': 'a & b', 'ms': 10.0, 'peak_mb': 1.0, 'first_s': 1.0},
        {'part': 'p', 'code': 'c', 'ms': 40.0, 'peak_mb': 1.0, 'first_s': 1.0},
    ]
    bars.write(tmp_path / 'x.svg', 'title', rows)
    widths = [
        float(bar.get('width'))
        for bar in ElementTree.parse(tmp_path / 'x.svg').getroot().findall('.//{*}rect')
    ]
    assert widths[:2] == [widths[1] / 4, widths[1]]
    assert widths[2] == widths[3]


WANTED = dict(
    model='giel', config='', parts=[], dtype='', size='', train_size='', objects=1, batch=1
)


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'parts': ['speed']}, "--parts has 'speed'; giel has: inference, training"),
        ({'model': 'stm', 'config': TINY}, "the model is 'giel'; --model asks for 'stm'"),
        ({'model': 'stm', 'train_size': '100x64'}, 'needs multiples of 16'),
        ({'size': '9'}, '--size=9: needed'),
    ],
)
def test_wrong_flags_are_refused(changes, told):
    with pytest.raises(InputError, match=re.escape(told)):
        compare_pytorch.make_tasks(types.SimpleNamespace(**{**WANTED, **changes}))


def test_each_part_has_its_own_size():
    inference, training = compare_pytorch.make_tasks(types.SimpleNamespace(**WANTED))
    assert (inference.size, training.size) == ((480, 854), (384, 384))


def test_the_command_says_that_pytorch_is_missing(run_command, bare):
    result = run_command(*COMMAND, **bare)
    assert result.returncode == 2
    assert "pip install 'vos_jax[torch]'" in result.stderr
