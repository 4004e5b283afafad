"""Counts the work of the programs for accelerators, beside that of an older commit.

  git worktree add OLD 09d50fa
  python -m benchmarks.work --before=OLD --out=docs/measurements

Nothing runs and no device is needed: frames and train steps are traced with the shapes of the
published models. Operations, sorts, gathers and the steps of loops are counted in the trace, the
arrays that are sent and passed in a frame through the Python API, and temporaries by compiling for
a TPU (libtpu: the extra plan). Each program is counted in a process of its own, in the older
checkout by this same file. Writes work_compiled.json and work_training.json.
"""

import argparse
import collections
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).resolve()
GIEL, CFBI, STM = (
    f'configs/{name}.py' for name in ('giel_resnet50', 'cfbi_resnet101', 'stm_resnet50')
)
SIZE, OBJECTS, TOPOLOGY = (480, 854), 3, 'v5e:2x2'
_JIT, _PUT = jax.jit, jax.device_put
_CALLS, _SENT = [], []


class _Traced:
    """Stands for jax.jit: notes what is passed, and gives zeros without running anything."""

    def __init__(self, function, **options):
        self._jitted = _JIT(function, **options)

    def __call__(self, *args, **kwargs):
        leaves = jax.tree.leaves((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._jitted(*args, **kwargs)
        _CALLS.append((self._jitted, args, len(leaves)))
        _note_sent(leaves)
        shapes = self._jitted.eval_shape(*args, **kwargs)
        return jax.tree.map(lambda a: _PUT(np.zeros(a.shape, a.dtype)), shapes)

    def __getattr__(self, name):
        return getattr(self._jitted, name)


def _trace_only():
    """From here on nothing that is compiled runs; import the code to be counted after this."""

    def jit(function=None, **options):
        if function is None:
            return functools.partial(jit, **options)
        return _Traced(function, **options)

    def put(arrays, *args, **kwargs):
        _note_sent(jax.tree.leaves(arrays))
        return _PUT(arrays, *args, **kwargs)

    jax.jit, jax.device_put = jit, put


def _note_sent(leaves):
    _SENT.extend(leaf.nbytes for leaf in leaves if isinstance(leaf, np.ndarray | np.generic))


def frame(spec):
    """A frame through the Python API, its memory full."""
    _trace_only()
    from benchmarks import inference

    running = inference.Running(spec, 'bfloat16', SIZE, OBJECTS)
    video = running._segmenter
    if hasattr(video, 'program'):  # as on accelerators: CPUs do not pack small arrays
        program = video.program
        settings = (program.model, program.variables, program.memory)
        video.program = type(program)(*settings, packed=True)
        running.step()
    _CALLS.clear()
    _SENT.clear()
    running.step()
    function, args, count = max(_CALLS, key=lambda call: call[2])
    found = {'arrays': count, 'sent': len(_SENT), 'sent_mb': sum(_SENT) / 1e6}
    return found | _traced(function.trace(*args))  # minutes of compilation would tell no more


def matching(kind, part):
    """CFBI's matching of one frame, with its gradient or without."""
    from benchmarks import matching as parts

    arrays = parts.make_inputs('local' if kind == 'local' else 'global', (481, 849), OBJECTS)

    def forward(*arrays):
        return parts.match(kind, *arrays, OBJECTS + 1, 'bfloat16')

    def loss(*arrays):
        return forward(*arrays).sum()

    function = forward if part == 'forward' else jax.value_and_grad(loss, (0, 1))
    return _counted(jax.jit(function), arrays)


def hardest():
    """The hardest 15 % of the pixels of 24 frames, with their gradient."""
    from vos_jax.training import losses

    pixels = jax.ShapeDtypeStruct((24, 465, 465), jnp.float32)
    function = jax.value_and_grad(functools.partial(losses.hardest_mean, fraction=0.15))
    return _counted(jax.jit(function), (pixels, pixels))


def read(is_tiled, part):
    """STM's read of 20 frames of 480p by one object: all pixels at once, or in tiles."""
    from vos_jax.ops import memory

    like = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
    frames, cells = 20, 1620
    arrays = [like((1, frames, cells, 128)), like((1, cells, 128)), like((1, frames, cells, 512))]
    valid = np.ones((1, frames, cells), bool)

    def forward(keys, query, values):
        def of_pixels(query, _):
            weights = memory.affinity(memory.dot_similarity(keys, query, 128**-0.5), valid)
            return memory.read_memory(weights, values)

        return memory.in_tiles(of_pixels, query, valid) if is_tiled else of_pixels(query, None)

    def loss(*arrays):
        return jnp.square(forward(*arrays).astype(jnp.float32)).sum()

    function = forward if part == 'forward' else jax.grad(loss, (0, 1, 2))
    return _counted(jax.jit(function), arrays)


def training(remat):
    """A train step of GIEL as published, traced alone."""
    from vos_jax.training import flops
    from vos_jax.training.program import Program

    try:
        from vos_jax.recipe import load
    except ImportError:
        from vos_jax.config import load
    program = Program(load(GIEL, [f'training.remat={remat}', 'model.dtype=bfloat16']))
    jaxpr = program.trace().jaxpr
    tally = _flops().tally(jaxpr)
    found = {'reported': flops.count(jaxpr) / 1e12, 'done': tally.done / 1e12}
    if remat == 'none':
        all_slots = dict.fromkeys((1, 3, 6), tally.needed)
        slots = program.flops() if hasattr(program, 'flops') else all_slots
        found |= {f'{number} slots': count / 1e12 for number, count in slots.items()}
    return found


def _counted(function, args):
    """Figures of a program: of its trace, and what it needs on a chip of a TPU slice."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform='tpu', topology_name=TOPOLOGY).devices
    place = jax.sharding.SingleDeviceSharding(devices[0])

    def placed(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    traced = function.trace(*jax.tree.map(placed, args))
    compiled = traced.lower(lowering_platforms=('tpu',)).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    return _traced(traced) | {'temporary_mb': temporary / 1e6}


def _traced(traced):
    numbers = operations(traced.jaxpr.jaxpr)
    figures = {kind: numbers[kind] for kind in ('sort', 'gather', 'steps', 'unknown')}
    is_known = not numbers['unknown'] + numbers['pallas_call']
    return figures | {'tflop': _flops().tally(traced.jaxpr).needed / 1e12 if is_known else None}


def operations(jaxpr, times=1):
    """How often each primitive of a program runs, loops multiplied out, as a Counter.

    'steps' are those of all loops; 'unknown' are loops whose length only the data tell, which count
    once. Of branches by platform that of accelerators counts, of others the last.
    """
    numbers = collections.Counter()
    for equation in jaxpr.eqns:
        kind, params = equation.primitive.name, equation.params
        inner = times * params['length'] if kind == 'scan' else times
        numbers[kind] += times
        numbers['steps'] += inner if kind == 'scan' else 0
        numbers['unknown'] += times if kind == 'while' else 0
        parts = [part for value in params.values() for part in _parts(value)]
        for part in parts[-1:] if kind == 'cond' else parts:
            numbers += operations(part, inner)
    return numbers


def _parts(value):
    value = value if isinstance(value, tuple | list) else (value,)
    parts = (getattr(part, 'jaxpr', part) for part in value)
    return [part for part in parts if hasattr(part, 'eqns')]


@functools.cache
def _flops():
    """vos_jax.training.flops of this checkout, whichever one is counted."""
    path = HERE.parent.parent / 'vos_jax' / 'training' / 'flops.py'
    spec = importlib.util.spec_from_file_location('flops_of_work', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMPILED = {
    'GIEL, a frame of 854x480, 3 objects': (frame, GIEL),
    'STM, a frame': (frame, STM),
    'CFBI, a frame': (frame, CFBI),
    "CFBI's global matching": (matching, 'global', 'forward'),
    'the same with its gradient': (matching, 'global', 'gradient'),
    "CFBI's local matching": (matching, 'local', 'forward'),
    'the same with its gradient ': (matching, 'local', 'gradient'),
    'the hardest pixels of 24 frames, with their gradient': (hardest,),
}
# Forms that can be chosen: name -> both of them.
FORMS = {
    "CFBI's global matching, in a kernel": (
        (matching, 'global', 'forward'),
        (matching, 'global in a kernel', 'forward'),
    ),
    "STM's read of 20 frames, in tiles": ((read, False, 'forward'), (read, True, 'forward')),
    'the same with its gradient, in tiles': ((read, False, 'gradient'), (read, True, 'gradient')),
}
TRAINING = {remat: (training, remat) for remat in ('full', 'products', 'none')}


def count(function, *arguments, tree=HERE.parent.parent):
    """Figures by the code of a checkout, in a process of its own."""
    from vos_jax.planning.slices import NO_TPU

    call = json.dumps([function.__name__, *arguments])
    path = os.pathsep.join(filter(None, [str(tree), os.environ.get('PYTHONPATH')]))
    environment = {**NO_TPU, **os.environ, 'PYTHONPATH': path, 'JAX_PLATFORMS': 'cpu'}
    environment['JAX_ENABLE_COMPILATION_CACHE'] = '0'  # programs from there have no plan of memory
    done = subprocess.run(
        [sys.executable, '-P', str(HERE), f'--count={call}'],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print(call, Path(tree).name, done.stdout.splitlines()[-1], flush=True)
    return json.loads(done.stdout.splitlines()[-1])


HEADS = {
    'tflop': 'TFLOP',
    'temporary_mb': 'temporaries, MB',
    'sort': 'sorts',
    'gather': 'gathers',
    'steps': 'steps of loops',
    'unknown': 'loops of unknown length',
    'arrays': 'arrays passed',
    'sent': 'arrays sent',
    'sent_mb': 'sent, MB',
}


def compiled_rows(before):
    """A line for each program: 'before → now', or one figure where both are equal."""
    pairs = {name: (count(*what, tree=before), count(*what)) for name, what in COMPILED.items()} | {
        name: (count(*plain), count(*other)) for name, (plain, other) in FORMS.items()
    }
    return [
        [name.strip(), *(_change(old.get(key), new.get(key)) for key in HEADS)]
        for name, (old, new) in pairs.items()
    ]


def _change(*values):
    if values == (None, None):
        return ''
    return ' → '.join(dict.fromkeys(map(_text, values)))


def _text(value):
    if value is None:
        return 'unknown'
    return f'{value:.2g}' if value < 10 else f'{value:,.0f}'


def training_rows(before):
    """A line for each figure of a train step: before, now."""
    pairs = {remat: (count(*what, tree=before), count(*what)) for remat, what in TRAINING.items()}
    lines = {f'needed, clips of up to {n} objects': ('none', f'{n} slots') for n in (1, 3, 6)}
    lines |= {f'done, remat={remat}, 6 slots': (remat, 'done') for remat in TRAINING}
    lines['counted for the MFU, remat=full, 6 slots'] = ('full', 'reported')
    return [
        [name, *(round(figures[key], 1) for figures in pairs[remat])]
        for name, (remat, key) in lines.items()
    ]


def main():
    """Counts one program, in a child, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--before', type=Path, help='an older checkout')
    parser.add_argument('--out', type=Path, help='folder of the records')
    parser.add_argument('--count', help='for the processes that this one starts')
    wanted = parser.parse_args()
    if wanted.count:
        name, *arguments = json.loads(wanted.count)
        print(json.dumps(globals()[name](*arguments)))
        return
    before = wanted.before.resolve()
    about = {'command': 'python -m benchmarks.work --before=OLD --out=docs/measurements'}
    about['before'] = subprocess.check_output(
        ['git', 'rev-parse', '--short', 'HEAD'], cwd=before, text=True
    ).strip()
    training = {
        'device': f'counted in the traced program, bfloat16, TFLOP; before: {about["before"]}',
        **about,
        'columns': ['GIEL, a train step of 16 clips of 740x384', 'before', 'now'],
        'rows': training_rows(before),
    }
    _write(wanted.out / 'work_training.json', training)
    compiled = {
        'device': f'traced, and compiled for a TPU v5e without one; before: {about["before"]}',
        **about,
        'columns': ['a call', *HEADS.values()],
        'rows': compiled_rows(before),
    }
    _write(wanted.out / 'work_compiled.json', compiled)


def _write(path, record):
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + '\n')
    print(f'figures in {path}')


if __name__ == '__main__':
    main()
