"""Everything for a machine with a GPU and no network: python -m benchmarks.gpu [--out=FILE].

Runs the tests marked `gpu`, then times inference and the train step, in float32 and bfloat16:
one table, one JSON. Needs jax, flax, optax and NumPy, and pytest for the tests. Exit code 0:
done and the tests passed; 1: a test failed; 2: there is no GPU.
"""

import os
import subprocess
import sys

from absl import flags

from benchmarks import inference, measuring, train_step
from vos_jax.errors import InputError, run_main

COLUMNS = {
    'benchmark': ('benchmark', ''),
    'config': ('config', ''),
    'dtype': ('dtype', ''),
    'size': ('size', ''),
    'batch': ('batch', 'd'),
    'objects': ('objects', 'd'),
    'remat': ('remat', ''),
    'ms': ('ms', '.1f'),
    'best_ms': ('best ms', '.1f'),
    'stream_ms': ('in segment()', '.1f'),
    'per_s': ('per s', '.2f'),
    'compile_s': ('compile s', '.1f'),
    'peak_mb': ('peak MB', '.0f'),
}
FULL = {
    'configs': (
        'configs/giel_resnet50.py',
        'configs/giel_resnet50.py:fast',
        'configs/giel_small.py',
    ),
    'dtypes': ('bfloat16', 'float32'),
    'size': (480, 854),
    'objects': (1, 3, 6),
    'frames': 30,
    'train_config': 'configs/giel_resnet50.py',
    'train_size': (384, 740),
    'train_slots': 6,
    'remats': ('full', 'step', 'none'),
    'batch': 4,
    'steps': 10,
}
TINY = {
    'configs': ('configs/giel_small.py:tiny',),
    'dtypes': ('float32',),
    'size': (64, 96),
    'objects': (1,),
    'frames': 2,
    'train_config': 'configs/giel_small.py:tiny',
    'train_size': (64, 96),
    'train_slots': 2,
    'remats': ('none',),
    'batch': 1,
    'steps': 1,
}


def main(argv):
    """Tests, inference, train step."""
    del argv
    wanted = flags.FLAGS
    found = measuring.in_own_process(measuring.machine)
    if found['backend'] != 'gpu' and not (wanted.allow_cpu and wanted.tiny):
        raise InputError(
            f'no GPU: JAX runs on {found["backend"]}; install jax[cuda13] on a machine with a GPU, '
            'or see that the command works with --allow_cpu --tiny'
        )
    print(measuring.describe(found), flush=True)
    plan = TINY if wanted.tiny else FULL
    tests = run_tests(found['backend'])
    rows = inference_rows(plan) + train_rows(plan)
    measuring.print_table(rows, COLUMNS)
    print(f'tests marked gpu: {tests["summary"]}')
    figures = {'benchmark': 'gpu', 'machine': found, 'tests': tests, 'rows': rows}
    measuring.write_json(wanted.out, figures)
    sys.exit(0 if tests['passed'] else 1)


def run_tests(backend):
    """Runs the tests marked `gpu` in a process that gives the device back at its end."""
    command = [sys.executable, '-m', 'pytest', '-q', '-m', 'gpu', 'tests/gpu']
    environment = {**os.environ, 'JAX_PLATFORMS': {'gpu': 'cuda,cpu'}.get(backend, backend)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(done.stdout + done.stderr, flush=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    # 5: nothing was run. Without a GPU all of them skip, which is 0.
    return {'passed': done.returncode == 0, 'summary': lines[-1] if lines else 'no output'}


def inference_rows(plan):
    """Rows of benchmarks.inference."""
    rows = []
    for spec in plan['configs']:
        for dtype in plan['dtypes']:
            for objects in plan['objects']:
                print(f'inference: {spec}, {dtype}, objects: {objects}', flush=True)
                row = measuring.in_own_process(
                    inference.measure, spec, dtype, plan['size'], objects, plan['frames']
                )
                rows.append({'benchmark': 'inference', 'per_s': 1000 / row['ms'], **row})
    return rows


def train_rows(plan):
    """Rows of benchmarks.train_step, of one policy after the other."""
    rows = []
    for dtype in plan['dtypes']:
        for remat in plan['remats']:
            print(f'train step: {plan["train_config"]}, {dtype}, remat {remat}', flush=True)
            row = measuring.in_own_process(
                train_step.measure,
                plan['train_config'],
                dtype,
                remat,
                batch=plan['batch'],
                size=plan['train_size'],
                slots=plan['train_slots'],
                num_steps=plan['steps'],
            )
            times = {'ms': 1000 * row['s'], 'best_ms': 1000 * row['best_s'], 'per_s': 1 / row['s']}
            rows.append({'benchmark': 'train step', **times, **row})
    return rows


if __name__ == '__main__':
    flags.DEFINE_bool('tiny', False, 'The smallest model and frames: shows that the command works.')
    flags.DEFINE_bool('allow_cpu', False, 'With --tiny: go on where there is no GPU.')
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
