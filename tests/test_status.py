"""vos-status: how a run is doing, from its files alone."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from vos_jax import recipe
from vos_jax.commands import status
from vos_jax.errors import InputError
from vos_jax.storage.mirror import Mirror
from vos_jax.training.checkpoints import Checkpoints
from vos_jax.training.metric_writer import MetricWriter


def test_a_run_is_described(place):
    config = recipe.load(str(REPOSITORY / 'configs/giel_small.py'), ['training.steps=100'])
    with pytest.raises(InputError, match=r'config\.json'):
        status.describe(place.url, 0)
    with Mirror(place.url) as mirror, MetricWriter(mirror.folder) as writer:
        recipe.save(config, mirror.folder)
        mirror.upload()
        assert status.describe(place.url, 0)[0].endswith('no step of 100 is logged yet')
        for step, jf in ((20, 0.5), (40, 0.4)):
            writer.write_scalars(step, {'loss': 1.5, 'machine/step_s': 2.0})
            writer.write_scalars(step, {'evaluation/jf': jf})
    with Checkpoints(place.url) as checkpoints:
        checkpoints.save(40, {'w': 1.0})
    now_s = (place.disk / 'metrics.jsonl').stat().st_mtime + 90
    first, loss, *rest = status.describe(place.url, now_s)
    assert first == f'{place.url}: step 40 of 100, 0.5 steps/s, ETA 2 min 00 s'
    assert loss in ('loss 1.5, logged 1 min 30 s ago', 'loss 1.5, logged 1 min 31 s ago')
    assert rest == ['J&F 40.0 (step 40), best 50.0 (20)', 'checkpoints: 40']
    with MetricWriter(place.disk, start_step=40) as writer:
        writer.write_scalars(100, {'loss': 1.5, 'machine/step_s': 2.0})
        writer.write_scalars(101, {'loss': float('nan'), 'machine/step_s': 2.0})
        writer.write_scalars(101, {'evaluation/jf': float('nan')})
    if place.url == place.disk:
        _, loss, scores, _ = status.describe(place.url, now_s)
        assert loss.startswith('loss not finite, logged')
        assert scores == 'J&F 40.0 (step 40), best 50.0 (20)'
        assert status.describe(place.url, now_s)[0].endswith('finished')


@pytest.mark.slow
def test_an_outage_is_reported_and_looked_at_again(tmp_path):
    path, away = tmp_path / 'config.json', tmp_path / 'away.json'
    recipe.save(recipe.load('giel_small'), tmp_path)
    command = [sys.executable, '-m', 'vos_jax.commands.status', '--every=1', str(tmp_path)]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    with subprocess.Popen(command, **pipes) as looking:
        try:
            assert 'is logged yet' in looking.stdout.readline()
            path.rename(away)
            while not (line := looking.stdout.readline()).startswith('error: '):
                assert line
            away.rename(path)
            while 'is logged yet' not in (line := looking.stdout.readline()):
                assert line
        finally:
            looking.kill()
    path.unlink()
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_a_config_that_is_no_group_is_refused(tmp_path):
    (tmp_path / 'config.json').write_text('[]')
    with pytest.raises(InputError, match=r'config\.json: not a stored config'):
        status.describe(tmp_path, 0)
