"""A run whose workdir is in a bucket: the network breaks, a kill, and nothing is lost."""

import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.training import micro
from vos_jax.checkpoint_files import list_steps
from vos_jax.trained import open_model
from vos_jax.training.checkpoints import Checkpoints
from vos_jax.training.metric_writer import read_metrics
from vos_jax.weights import named

pytestmark = pytest.mark.slow
LONGER = {'training.steps': 30}


def wait_for_checkpoint(url, running, after=0, timeout_s=600):
    end_s = time.monotonic() + timeout_s
    while (newest := max(list_steps(url), default=0)) <= after:
        assert time.monotonic() < end_s
        assert running[0].poll() is None, micro.end(running)[2]
        time.sleep(0.2)
    return newest


def test_a_save_that_the_bucket_loses_is_made_up_for_by_the_next(gcs, caplog):
    place, end = gcs(), threading.Event()

    def lose():
        while not end.is_set():
            shutil.rmtree(place.disk / 'checkpoints/latest/2/state', ignore_errors=True)

    with Checkpoints(place.url, keep=5) as saved:
        losing = threading.Thread(target=lose)
        for step in (1, 2, 3, 4):
            if step == 2:
                losing.start()
            saved.save(step, {'params': {'x': np.arange(300_000, dtype=np.float32)}})
            if step == 2:
                time.sleep(5)
                end.set()
                losing.join()
    if 2 in list_steps(place.url):
        pytest.skip('the save was faster than what removes its files')
    assert list_steps(place.url) == [1, 3, 4]
    assert 'a checkpoint was lost: no such bucket or object' in caplog.text


def test_a_broken_network_and_a_kill_leave_the_numbers_of_a_local_run(gcs, tmp_path):
    data, place = micro.write_data(tmp_path / 'data'), gcs()
    micro.run(data, tmp_path / 'local', LONGER)
    running = micro.start(data, place.url, LONGER)
    step = wait_for_checkpoint(place.url, running)
    gcs.server.stop()
    time.sleep(2)
    gcs.server.start()
    wait_for_checkpoint(place.url, running, after=step)
    running[0].send_signal(signal.SIGKILL)
    micro.end(running)
    assert 'resuming from step' in micro.run(data, place.url, LONGER)

    found, needed = micro.weights(place.url), micro.weights(tmp_path / 'local')
    assert found.keys() == needed.keys()
    for name, array in needed.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert micro.losses(place.url) == micro.losses(tmp_path / 'local')
    assert (place.disk / 'config.json').is_file()
    out = f'{place.url}-weights/run.npz'
    command = ['-m', 'vos_jax.commands.export', f'--workdir={place.url}', f'--out={out}']
    exported = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert exported.returncode == 0, exported.stderr
    exported = open_model(out).variables
    assert all(np.array_equal(array, needed[name]) for name, array in named(exported).items())
    events = sorted((place.disk / 'events').glob('events.*'), key=lambda path: path.stat().st_mtime)
    assert len(events) == 2
    assert events[-1].stat().st_size > 100 * len(read_metrics(place.url)[-5:])
