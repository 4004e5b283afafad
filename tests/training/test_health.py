import dataclasses
import json
import math
import socket

import jax
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.training import micro
from vos_jax import recipe as configs
from vos_jax.config.schema import Colour
from vos_jax.errors import InputError
from vos_jax.training import health

BAD = {'loss': math.nan, 'gradient_norm': math.nan, 'finite': 0.0}
GOOD = {'loss': 1.0, 'gradient_norm': 1.0, 'finite': 1.0}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return micro.write_data(tmp_path_factory.mktemp('made_up'))


def config_of(data, **training):
    settings = {'data.sources.synthetic.root': data, **micro.SETTINGS}
    settings |= {f'training.{name}': value for name, value in training.items()}
    spec = f'{REPOSITORY / "configs" / "giel_small.py"}:tiny'
    return configs.load(spec, [f'{name}={value}' for name, value in settings.items()])


def test_a_bad_step_stops_the_run_and_saves_its_clips(data, tmp_path):
    config = config_of(data)
    given = dataclasses.replace(config.data, warp='device', colour=Colour())
    watch = health.NonFinite(dataclasses.replace(config, data=given), tmp_path)
    watch.check(6, GOOD)
    with pytest.raises(FloatingPointError, match='the loss of step 7 is not finite'):
        watch.check(7, BAD)
    saved = json.loads((tmp_path / 'nonfinite' / 'step_0000007.json').read_text())
    assert (saved['step'], saved['metrics']['loss']) == (7, 'nan')
    assert len(saved['clips']) == 4
    assert all(name.startswith('synthetic/') for name in saved['clips'])
    clips = np.load(tmp_path / 'nonfinite' / 'step_0000007.npz')
    assert clips['frames'].shape == (4, 2, 32, 48, 3)


def test_bad_steps_are_left_out_up_to_the_limit(data, tmp_path, capsys):
    config = config_of(data, nonfinite='skip', nonfinite_limit=2)
    watch = health.NonFinite(config, tmp_path)
    watch.check(1, BAD)
    watch.check(2, {**BAD, 'loss': 1.0})
    assert 'warning: the gradient of step 2 is not finite' in capsys.readouterr().out
    with pytest.raises(FloatingPointError, match='3 batches; the limit is reached'):
        watch.check(3, BAD)


def test_a_profile_knows_the_steps(data, tmp_path):
    config = config_of(data, steps=12)
    config = dataclasses.replace(config, profile=2)
    step = jax.jit(lambda x: x + 1)
    with health.Watch(config, tmp_path, start=0) as watch:
        for index in range(12):
            with watch.watched(index):
                result = step(1.0)
            watch.after(index + 1, result)
    (path,) = (tmp_path / 'profile').rglob('*.xplane.pb')
    profile = jax.profiler.ProfileData.from_file(str(path))
    events = [e for plane in profile.planes for line in plane.lines for e in line.events]
    found = [dict(event.stats)['step_num'] for event in events if event.name == 'train']
    assert found == [10, 11]


def test_a_profiler_is_served_when_asked_for(data, tmp_path):
    port = micro.free_port()
    config = dataclasses.replace(config_of(data), profiler_port=port)
    with health.Watch(config, tmp_path, start=0):
        socket.create_connection(('127.0.0.1', port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(('127.0.0.1', port))
    with socket.create_server(('', port)), pytest.raises(InputError, match=f'{port} cannot be had'):
        health.Watch(config, tmp_path, start=0).__enter__()


def test_a_step_that_is_compiled_again_is_noticed(capsys):
    step = jax.jit(lambda x: x + 1)
    watch = health.Compilations('warn')
    for index, size in enumerate((3, 3, 4, 4)):
        with watch.watched(index):
            step(np.ones(size, np.float32))
        assert ('compiled again' in capsys.readouterr().err) == (index == 2)
    watch = health.Compilations('error')
    with watch.watched(0):
        step(np.ones(5, np.float32))
    with pytest.raises(RuntimeError, match='step 1 was compiled again'), watch.watched(1):
        step(np.ones(6, np.float32))
