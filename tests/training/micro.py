"""The smallest runs of train.py that do everything: seconds of compilation, milliseconds a step."""

import os
import socket
import subprocess
import sys

from tests.conftest import REPOSITORY, devices_flag
from vos_jax.checkpoint_files import read_variables
from vos_jax.data import scenes
from vos_jax.training.metric_writer import read_metrics
from vos_jax.weights import named

SETTINGS = {
    'data.crop': '(32,48)',
    'data.batch_size': 4,
    'data.clip_length': 2,
    'data.num_slots': 1,
    'data.paste.probability': 0.0,
    'model.variant': 'fast',
    'model.locality': 'none',
    'model.encoder.widths': '(8,8,8)',
    'model.encoder.stem_width': 8,
    'model.key_channels': 8,
    'model.value_channels': 8,
    'model.decoder_channels': 8,
    'loss.dice': 0.0,
    'loss.propagation': 0.0,
    'training.sequential_from': 0,
    'training.ema_decay': 0.0,
    'training.unrolled': True,
    'training.steps': 5,
    'training.log_every': 1,
    'training.checkpoint_every': 2,
    'training.recompilation': 'error',
    # Adam divides by the gradient's size: rounding of a gradient near zero would become a step.
    'optimizer.name': 'sgd',
    'optimizer.learning_rate': 0.05,
    'optimizer.warmup': 2,
    'optimizer.weight_decay': 0.0,
}


def write_data(root):
    """Made-up video in a folder."""
    scenes.write_dataset(root, num_train=4, num_val=1, frames=6, size=(64, 96), seed=0)
    return root


def command(data, workdir, changes=None):
    """The command line of a run; arguments as of `start`."""
    settings = {**SETTINGS, 'data.sources.synthetic.root': data, **(changes or {})}
    config = REPOSITORY / 'configs' / 'giel_small.py'
    return [
        sys.executable,
        str(REPOSITORY / 'train.py'),
        f'--config={config}:tiny',
        f'--workdir={workdir}',
        '--config.evaluation.sources={}',
        *(f'--config.{name}={value}' for name, value in settings.items()),
    ]


def start(data, workdir, changes=None, processes=1, devices=1, **streams):
    """Starts train.py in one or more processes that find each other by flags.

    Args:
      data: folder of `write_data`, or a list with one for each process.
      workdir: of the run.
      changes: dict of settings, or a list with one for each process.
      processes: how many.
      devices: virtual devices of each process.
      streams: for Popen; outputs are pipes by default.

    Returns:
      List of Popen, one for each process.
    """
    roots = data if isinstance(data, list) else [data] * processes
    settings = changes if isinstance(changes, list) else [changes] * processes
    environment = {**os.environ, 'XLA_FLAGS': devices_flag(devices), 'JAX_PLATFORMS': 'cpu'}
    port, running = free_port(), []
    for index in range(processes):
        places = [f'--coordinator_address=127.0.0.1:{port}', f'--num_processes={processes}']
        places = [*places, f'--process_id={index}'] if processes > 1 else []
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **streams}
        running.append(
            subprocess.Popen(
                [*command(roots[index], workdir, settings[index]), *places],
                env=environment,
                text=True,
                **pipes,
            )
        )
    return running


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def end(running, timeout_s=600):
    """Waits for processes: their exit codes, what they printed, what went to stderr."""
    outputs = [process.communicate(timeout=timeout_s) for process in running]
    return [p.returncode for p in running], [o for o, _ in outputs], [e for _, e in outputs]


def run(*arguments, **settings):
    """`start` and `end`; the processes must succeed. Gives what the first one printed."""
    codes, outputs, errors = end(start(*arguments, **settings))
    assert not any(codes), '\n'.join(errors)
    # One process speaks; but all of them tell that CPU collectives (Gloo) are connected.
    lines = [line for output in outputs[1:] for line in output.splitlines()]
    assert not [line for line in lines if not line.startswith('[Gloo]')]
    return outputs[0]


def losses(workdir):
    """{step: loss} of a run."""
    return {m['step']: m['loss'] for m in read_metrics(workdir) if 'loss' in m}


def weights(workdir):
    """{name: array} of a run's newest checkpoint."""
    return named(read_variables(workdir, 'latest')[0])
