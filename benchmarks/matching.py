"""Times CFBI's two matchings: python -m benchmarks.matching [--objects=1,3,5,10].

Global matching of all pixels at stride 4 against one reference frame, and local matching in six
windows at stride 8, for frames of 849x481; forward alone, and with the gradient. Each row is
measured in a process of its own. `--compare_pytorch` adds the same mathematics written plainly in
PyTorch (benchmarks/pytorch/matching.py), whose gradient needs 3 GB for each slot at this size. On a
CPU the memory is what the part adds to that of the process.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import inputs, measuring
from vos_jax.errors import run_main
from vos_jax.models.cfbi.spec import WINDOWS
from vos_jax.ops import align, matching
from vos_jax.storage.names import parse_size

CHANNELS = 100
COLUMNS = 'code kind dtype grid objects part ms best_ms cpu_ms added_mb'


def make_inputs(kind, size, num_objects, seed=0):
    """Embeddings f32[1, h, w, C] of two frames and labels i32[1, h, w] on the matching's grid."""
    grid = tuple((side - 1) // 4 + 1 for side in size)
    if kind == 'local':
        grid = tuple(side // 2 + 1 for side in grid)
    rng = np.random.default_rng(seed)
    # Embeddings are rectified.
    first, second = np.maximum(rng.standard_normal((2, 1, *grid, CHANNELS), np.float32), 0)
    _, masks = inputs.make_video(size, 1, num_objects)
    labels = np.asarray(align.nearest(masks[None].astype(np.int32), grid))
    return first, second, labels


def match(kind, query, reference, labels, num_slots, dtype):
    """Distances of the slots, as the model asks for them."""
    if kind == 'local':
        return matching.match_locally(query, reference, labels, num_slots, WINDOWS, dtype)
    flat = (1, -1, CHANNELS)
    return matching.match_globally(
        query.reshape(flat),
        reference.reshape(flat),
        labels.reshape(1, -1),
        num_slots,
        dtype,
        fused=kind == 'global in a kernel',
    )


def measure(kind, part, size, num_objects, num_runs, dtype):
    """One row: time of a run, and the memory that the runs add."""
    arrays = make_inputs(kind, size, num_objects)
    row = {'code': 'vos_jax', 'dtype': dtype, **_about(kind, part, arrays[2], num_objects)}
    row |= _run(runner(kind, part, arrays, num_objects + 1, dtype), num_runs)
    return row | {'machine': measuring.machine()}


def runner(kind, part, arrays, num_slots, dtype='float32'):
    """Compiled function without arguments that runs one matching.

    Args:
      kind: 'global', 'global in a kernel' or 'local'.
      part: 'forward' or 'gradient' (of the sum of the proxies).
      arrays: of `make_inputs`.
      num_slots: background and objects.
      dtype: of the products.
    """
    arrays = tuple(map(jnp.asarray, arrays))

    def forward(query, reference, labels):
        return match(kind, query, reference, labels, num_slots, dtype)

    def loss(*arrays):
        return matching.proxy(forward(*arrays), 0.0).sum()

    function = forward if part == 'forward' else jax.value_and_grad(loss, (0, 1))
    compiled = jax.jit(function).lower(*arrays).compile()
    return lambda: compiled(*arrays)


def measure_pytorch(kind, part, size, num_objects, num_runs):
    """The same row of the plain PyTorch version."""
    from benchmarks.pytorch import matching as plain

    arrays = make_inputs(kind, size, num_objects)
    run = plain.runner(kind, part, arrays, num_objects + 1, WINDOWS)
    row = {'code': 'PyTorch', 'dtype': 'float32', **_about(kind, part, arrays[2], num_objects)}
    return row | _run(run, num_runs) | {'machine': measuring.machine()}


def _about(kind, part, labels, num_objects):
    height, width = labels.shape[1:]
    return {'kind': kind, 'part': part, 'grid': f'{width}x{height}', 'objects': num_objects}


def _run(function, num_runs):
    measuring.forget_peak_memory()
    before = measuring.peak_memory()['peak_mb']
    measuring.timed(function)
    samples = [measuring.timed(function)[1:] for _ in range(num_runs)]
    peak = measuring.peak_memory()
    figures = {'added_mb': peak['peak_mb'] - before, 'memory': peak['memory']}
    return figures | measuring.summary_ms(samples)


def main(argv):
    """Measures and prints; a row for each matching, part, number of objects and code."""
    del argv
    wanted = flags.FLAGS
    size = parse_size(wanted.size)
    codes = [(measure, (wanted.dtype,))]
    if wanted.compare_pytorch:
        measuring.check_pytorch()
        codes.append((measure_pytorch, ()))
    rows = []
    kinds, objects = ('global', 'local'), map(int, wanted.objects)
    for kind, part, num_objects in itertools.product(kinds, wanted.parts, objects):
        print(f'{kind}, {part}, objects: {num_objects}', flush=True)
        settings = (kind, part, size, num_objects, wanted.runs)
        for function, more in codes:
            rows.append(measuring.in_own_process(function, *settings, *more))
    measuring.report('matching', rows, COLUMNS, wanted.out)


if __name__ == '__main__':
    flags.DEFINE_string('size', '849x481', 'Network input, WIDTHxHEIGHT.')
    flags.DEFINE_list('objects', ['1', '3', '5', '10'], 'Numbers of objects.')
    flags.DEFINE_multi_enum(
        'parts', ['forward', 'gradient'], ['forward', 'gradient'], 'What to time.'
    )
    flags.DEFINE_integer('runs', 3, 'Runs to time after the first.', lower_bound=1)
    flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16', 'float16'], 'Of the products.')
    flags.DEFINE_bool('compare_pytorch', False, 'Time the plain PyTorch version too.')
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
