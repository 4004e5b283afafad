import json
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vos_jax.training.metric_writer import MetricWriter, parameter_overview, read_metrics, step_line


def events(workdir):
    accumulator = EventAccumulator(str(workdir / 'events'))
    accumulator.Reload()
    return accumulator


def test_scalars_are_in_the_lines_and_in_the_event_files(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write_scalars(10, {'train/loss': jnp.float32(0.5), 'lr': 1e-3})
        writer.write_scalars(20, {'train/loss': np.float64(0.25)})
    assert read_metrics(tmp_path) == [
        {'step': 10, 'train/loss': 0.5, 'lr': 1e-3},
        {'step': 20, 'train/loss': 0.25},
    ]
    scalars = events(tmp_path).Scalars('train/loss')
    assert [(event.step, event.value) for event in scalars] == [(10, 0.5), (20, 0.25)]


def test_images_come_back_pixel_by_pixel_from_both_places(tmp_path, rng):
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    with MetricWriter(tmp_path) as writer:
        writer.write_images(40, {'panel': image})
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / 'images/panel_0000040.png')), image
    )
    event = events(tmp_path).Images('panel')[0]
    assert (event.step, event.width, event.height) == (40, 8, 6)
    assert event.encoded_image_string == (tmp_path / 'images/panel_0000040.png').read_bytes()


def test_a_value_that_is_not_finite_leaves_the_line_valid_json(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write_scalars(1, {'loss': float('nan'), 'norm': float('inf')})

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    line = (tmp_path / 'metrics.jsonl').read_text()
    assert json.loads(line, parse_constant=refuse) == {'step': 1, 'loss': None, 'norm': None}


def test_a_resumed_run_drops_the_steps_that_come_again(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (10, 20, 30):
            writer.write_scalars(step, {'loss': step})
    with MetricWriter(tmp_path, start_step=20) as writer:
        writer.write_scalars(30, {'loss': 31})
    assert [line['loss'] for line in read_metrics(tmp_path)] == [10, 20, 31]
    assert [(e.step, e.value) for e in events(tmp_path).Scalars('loss')] == [
        (10, 10),
        (20, 20),
        (30, 31),
    ]


def test_a_new_run_in_an_old_folder_starts_its_lines_anew(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write_scalars(10, {'loss': 1})
    with MetricWriter(tmp_path):
        pass
    assert read_metrics(tmp_path) == []


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{'step': 1, 'loss': 2.0}]
    with MetricWriter(tmp_path, start_step=5) as writer:
        writer.write_scalars(6, {'loss': 1.0})
    assert [line['step'] for line in read_metrics(tmp_path)] == [1, 6]


WRITE_AND_WAIT = """
import sys, time
from vos_jax.training.metric_writer import MetricWriter

writer = MetricWriter(sys.argv[1])
writer.write_scalars(1, {'loss': 0.5})
writer.flush()
print('flushed', flush=True)
time.sleep(60)
"""


def test_what_was_flushed_survives_a_kill(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-c', WRITE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert read_metrics(tmp_path) == [{'step': 1, 'loss': 0.5}]
    assert events(tmp_path).Scalars('loss')[0].value == 0.5


def test_tensorflow_is_not_loaded(tmp_path, run_python):
    code = (
        'import sys\n'
        'from vos_jax.training.metric_writer import MetricWriter\n'
        'MetricWriter(sys.argv[1]).close()\n'
        "print('tensorflow' in sys.modules)"
    )
    assert run_python(code, tmp_path).stdout.strip() == 'False'


def test_the_line_has_the_step_the_terms_and_the_speed():
    assert step_line(120, 1000, {'loss': 1.23456, 'lr': 1e-5}, '2 steps/s  ETA 7 min 20 s') == (
        'step  120/1000  loss 1.235  lr 1e-05  2 steps/s  ETA 7 min 20 s'
    )
    assert step_line(140, 1000, {'loss': jnp.float32(1)}, '') == 'step  140/1000  loss 1  '


def test_the_overview_counts_parameters_of_shapes_alone():
    kernel = jax.ShapeDtypeStruct((3, 3, 2, 4), jnp.float32)
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    variables = {'params': {'key': {'kernel': kernel, 'scale': scale}}}
    text = parameter_overview(variables)
    assert 'params/key/kernel' in text
    assert text.endswith('Total: 73')


@pytest.mark.parametrize(
    'damage',
    [b'\0' * 50 + b'\n', b'\xff\xfe\n', b'[]\n', b'{}\n', b'{"step": "x"}\n', b'[' * 9999 + b'\n'],
)
def test_a_line_that_cannot_be_read_does_not_stop_a_resume(tmp_path, damage):
    whole = [b'{"step": %d, "loss": 2.0}\n' % step for step in (1, 2)]
    (tmp_path / 'metrics.jsonl').write_bytes(whole[0] + damage + whole[1])
    with MetricWriter(tmp_path, start_step=5) as writer:
        writer.write_scalars(6, {'loss': 1.0})
    assert [line['step'] for line in read_metrics(tmp_path)] == [1, 2, 6]
