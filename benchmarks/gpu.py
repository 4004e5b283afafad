"""All there is to measure on a GPU, without a network: python -m benchmarks.gpu --out=DIR

Parts in processes of their own, each with a time limit, in the order of what would be missed most.
A row is on the disk (DIR/rows.jsonl) the moment it is measured, so a part that is killed or hangs
loses one row; an error, such as memory that does not suffice, is a row. Needs jax, flax, optax,
orbax, NumPy and absl; PyTorch and pytest for the parts that are theirs. --budget is the time for
all of them, --parts=a,b chooses; --tiny shows on a CPU that all of them run. Exit code 0 where
every part came to its end.

The last parts train, in DIR/NAME, and write DIR/NAME.npz. They need what `pip install vos_jax`
brings for that, and --data: the folder with davis_240p, davis_multi_240p and, for giel_lite,
still_regions and static_images. What giel_lite starts from is said in configs/giel_lite.py.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from vos_jax.errors import InputError, first_line, run_main

REPOSITORY = Path(__file__).resolve().parent.parent
# Less is not enough to start a part and measure a row.
LEAST_S = 15
# How lines begin that say why a test or a process ended: of XLA, pytest and the C library.
_REASONS = ('F0', 'F1', 'E ', 'double free', 'corrupted', 'malloc', 'free()')
OURS = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', 'JAX_PLATFORMS': 'cuda,cpu'}
PYTORCH = {'JAX_PLATFORMS': 'cpu'}  # JAX must not take memory of the card beside PyTorch


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is: of the real thing, or just large enough to run.

    Attributes:
      suffix: variant of the recipes.
      size, crop: frames in inference, and in training, (height, width).
      objects: numbers of objects in inference; slots: in training.
      remats: policies of rematerialisation.
      frames, steps: how many are timed.
      batch: clips.
      product: side of the matrices whose product is timed.
      out: folder of what training writes.
    """

    suffix: str = ''
    size: tuple[int, int] = (480, 854)
    crop: tuple[int, int] = (384, 740)
    objects: tuple[int, ...] = (3, 1, 5)
    slots: tuple[int, ...] = (3, 6, 1)
    remats: tuple[str, ...] = ('none', 'full', 'products', 'step')
    frames: int = 30
    steps: int = 10
    batch: int = 4
    product: int = 8192
    out: Path = Path()

    @property
    def is_tiny(self):
        """Whether it only shows that all runs."""
        return bool(self.suffix)

    def config(self, recipe):
        """The recipe at this scale: a variant for tests stands for all others."""
        return recipe.partition(':')[0] + self.suffix if self.suffix else recipe


TINY = Scale(':tiny', (64, 96), (64, 96), (1,), (2,), ('none',), 3, 2, 1, 256)


def ceilings(scale):
    """What the device gives: a matrix product, a convolution as in the decoder, a copy."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    count, (height, width) = scale.product, (side // 4 for side in scale.size)
    for dtype in ('bfloat16', 'float32'):
        x = jax.random.normal(jax.random.key(0), (count, count), dtype)
        product = functools.partial(jax.jit(jnp.matmul), x, x)
        yield f'matrix product {dtype}', lambda f=product: _rate(f, 2 * count**3)
        image = jnp.ones((4, height, width, 256), dtype)
        kernel = jnp.ones((3, 3, 256, 256), dtype)
        convolve = jax.jit(
            lambda x, k: lax.conv_general_dilated(
                x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
            )
        )
        work = 2 * image.size * kernel.shape[-1] * 9
        convolution = functools.partial(convolve, image, kernel)
        yield f'convolution 3x3, 256 {dtype}', lambda f=convolution, w=work: _rate(f, w)
    x = jnp.ones(16 * count * count, jnp.bfloat16)
    copy = functools.partial(jax.jit(lambda x: x + 1), x)
    yield 'copy', lambda: {'gb_per_s': 2 * x.nbytes / _median_ms(copy) / 1e6}
    yield 'more memory than there is', lambda: {'mb': jnp.zeros(2**50, jnp.uint8).nbytes}


def tests(scale):
    """The tests marked gpu: numbers of the GPU against those of the CPU."""
    del scale

    def run():
        # -s: where the compiler aborts, its reason would be lost with what pytest captures.
        command = [sys.executable, '-m', 'pytest', '-q', '-s', '-m', 'gpu', 'tests/gpu']
        done = subprocess.run(
            [*command, '-p', 'no:cacheprovider'], capture_output=True, text=True, check=False
        )
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if done.returncode:
            print('\n'.join(lines[:60]), flush=True)
        reason = next((line for line in lines if line.startswith(_REASONS)), '')
        return {'rc': done.returncode, 'summary': lines[-1][:200], 'reason': reason[:300]}

    yield 'tests marked gpu', run


def inference(recipes, dtype, scale):
    """Frames through the API, and what the device alone takes for them."""
    import jax

    from benchmarks import inference as api
    from benchmarks import measuring

    def row(recipe, objects):
        one = api.Running(scale.config(recipe), dtype, scale.size, objects)
        times = measuring.summary_ms([measuring.timed(one.step)[1:] for _ in range(scale.frames)])
        return {
            **times,
            'fps': 1000 / times['ms'],
            'device_ms': _back_to_back_ms(one.dispatch, scale.frames),
            'dispatch_ms': _dispatch_ms(one.dispatch, scale.frames),
            'first_s': one.first_s,
            **measuring.peak_memory(),
            'dtype': dtype,
            'size': f'{scale.size[1]}x{scale.size[0]}',
            'devices': len(jax.devices()),
        }

    for recipe, objects in itertools.product(recipes, scale.objects):
        name = f'frame, {recipe}, {objects} objects, {dtype}'
        yield name, functools.partial(row, recipe, objects)


def training(recipe, dtype, scale):
    """Train steps by slots and policy, on a batch that is on the device."""
    from benchmarks import train_step

    for remat, slots in itertools.product(scale.remats, scale.slots):

        def row(remat=remat, slots=slots):
            found = train_step.measure(
                scale.config(recipe),
                dtype,
                remat,
                batch=scale.batch,
                size=scale.crop,
                slots=slots,
                num_steps=scale.steps,
            )
            del found['machine']
            return found

        yield f'train step, {recipe}, {slots} slots, remat {remat}, {dtype}', row


def pytorch(model, recipe, codes, scale, part='inference'):
    """The same in PyTorch, tuned as XLA tunes itself: cudnn.benchmark, TF32, channels last."""
    import torch

    from benchmarks import contestants, measuring

    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision('high')
    size, counts, batch, times = scale.size, scale.objects[:2], 1, scale.frames
    if part == 'training':
        size, counts, batch, times = scale.crop, scale.slots[:1], scale.batch, scale.steps

    # STM has a twin of the released size alone.
    config = recipe if model == 'stm' else scale.config(recipe)

    def row(code, objects):
        task = contestants.Task(model, part, config, 'bfloat16', size, objects, batch)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        one = contestants.make(task, code)
        one.step()
        found = measuring.summary_ms([measuring.timed(one.step)[1:] for _ in range(times)])
        return {**found, 'first_s': one.first_s, **measuring.peak_memory(of_pytorch=True)}

    for code, objects in itertools.product(codes, counts):
        name = f'PyTorch {code}, {model} {part}, {objects} objects, bfloat16'
        yield name, functools.partial(row, code, objects)


def matching(scale):
    """CFBI's global and local matching, forward and with gradient."""
    import jax

    from benchmarks import matching as parts

    size = (65, 97) if scale.is_tiny else (481, 849)

    def row(kind, part, dtype):
        run = parts.runner(kind, part, parts.make_inputs(kind, size, 3), 4, dtype)
        jax.block_until_ready(run())
        return {'ms': _median_ms(run)}

    dtypes = ('bfloat16', 'float32')
    kinds = ('global', 'global in a kernel', 'local')
    for kind, part, dtype in itertools.product(kinds, ('forward', 'gradient'), dtypes):
        yield (
            f'{kind} matching, {part}, 3 objects, {dtype}',
            functools.partial(row, kind, part, dtype),
        )


def operations(scale):
    """The hardest pixels with their gradient, and STM's read of a long bank: whole and in tiles."""
    import jax
    import jax.numpy as jnp

    from vos_jax.ops import memory
    from vos_jax.training import losses

    is_tiny = scale.is_tiny
    side, frames, cells = (33, 3, 24) if is_tiny else (465, 20, 1620)
    pixels = jax.random.exponential(jax.random.key(0), (2 if is_tiny else 24, side, side))
    hardest = jax.jit(jax.value_and_grad(losses.hardest_mean))
    mined = functools.partial(hardest, pixels, jnp.ones_like(pixels), 0.15)
    yield f'hardest pixels of {len(pixels)} x {side}x{side}', lambda: {'ms': _median_ms(mined)}
    keys, query, values = (
        jnp.ones(shape, jnp.bfloat16)
        for shape in ((1, frames, cells, 128), (1, cells, 128), (1, frames, cells, 512))
    )
    valid = jnp.ones((1, frames, cells), bool)

    def read(keys, query, values, tiled=True):
        def of_pixels(query, _):
            weights = memory.affinity(memory.dot_similarity(keys, query, 128**-0.5), valid)
            return memory.read_memory(weights, values)

        return memory.in_tiles(of_pixels, query, valid) if tiled else of_pixels(query, None)

    def gradient(*arrays, tiled=True):
        return jax.grad(lambda *x: read(*x, tiled=tiled).sum(dtype=float), (0, 1, 2))(*arrays)

    def row(function, tiled):
        of = jax.jit(functools.partial(function, tiled=tiled))
        compiled = of.lower(keys, query, values).compile()
        planned = compiled.memory_analysis().temp_size_in_bytes
        ms = _median_ms(lambda: compiled(keys, query, values))
        return {'ms': ms, 'planned_mb': planned / 2**20}

    for function, tiled in itertools.product((read, gradient), (True, False)):
        how = 'in tiles' if tiled else 'whole'
        name = f'read of {frames} frames of {cells} cells, {how}, {function.__name__}'
        yield name, functools.partial(row, function, tiled)


def trained(name, recipe, changes, scale):
    """A recipe trained on small videos as train.py does, its J&F, and its weights."""
    workdir, flags_ = scale.out / name, [f'--config.{change}' for change in changes]
    config = f'configs/{recipe}'
    if scale.is_tiny:
        from vos_jax.data import scenes

        made_up = scale.out / 'data' / 'made_up'
        scenes.write_dataset(made_up, num_train=4, num_val=1, frames=6, size=(120, 180), seed=0)
        os.environ['VOS_DATA'] = str(made_up.parent)
        config, flags_ = f'configs/{name}.py:tiny', [f'--config.{change}' for change in _FEW_STEPS]

    def train():
        begin = time.perf_counter()
        _command('train', f'--config={config}', f'--workdir={workdir}', *flags_)
        lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
        last = functools.reduce(dict.__or__, lines)  # of each figure the last one
        shown = ('step', 'loss', 'machine/device_step_s', 'machine/mfu', 'machine/memory_mb')
        found = {key: last[key] for key in last if key in shown or key.startswith('evaluation/')}
        return {'config': config, 'total_s': time.perf_counter() - begin, **found}

    def export():
        out = scale.out / f'{name}.npz'
        _command('export', f'--workdir={workdir}', f'--out={out}')
        return {'bytes': out.stat().st_size}

    yield f'training of {name}', train
    yield f'weights of {name}', export


_FEW_STEPS = ('training.steps=6', 'optimizer.warmup=2', 'training.evaluate_every=6')


def _command(name, *arguments):
    command = [sys.executable, '-m', f'vos_jax.commands.{name}', *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ['no reason given']
        raise RuntimeError(f'{name} ended with code {done.returncode}: {lines[-1]}')


@dataclasses.dataclass(frozen=True)
class Part:
    """A process: up to N seconds, its environment, and what gives (name, measure) rows."""

    limit_s: float
    environment: dict
    rows: Callable


_GIEL, _STM = 'configs/giel_resnet50.py', 'configs/stm_resnet50.py'
_FULL_AND_FAST, _OTHERS = (_GIEL, f'{_GIEL}:fast'), ('configs/cfbi_resnet101.py', _STM)
# For the recipe of a CPU: a loop instead of unrolled steps, and as many threads as a GPU asks for.
_ON_GPU = (
    'training.unrolled=False',
    'training.checkpoint_every=500',
    'data.num_threads=12',
    'data.prefetch=12',
)
_part = functools.partial
PARTS = {
    'ceilings': Part(40, OURS, ceilings),
    'tests': Part(90, OURS, tests),
    'giel': Part(120, OURS, _part(inference, _FULL_AND_FAST, 'bfloat16')),
    'giel_pytorch': Part(60, PYTORCH, _part(pytorch, 'giel', _GIEL, ('eager',))),
    'giel_pytorch_compiled': Part(110, PYTORCH, _part(pytorch, 'giel', _GIEL, ('compiled',))),
    'training': Part(240, OURS, _part(training, _GIEL, 'bfloat16')),
    'training_pytorch': Part(
        60, PYTORCH, _part(pytorch, 'giel', _GIEL, ('eager',), part='training')
    ),
    'others': Part(150, OURS, _part(inference, _OTHERS, 'bfloat16')),
    'stm_pytorch': Part(45, PYTORCH, _part(pytorch, 'stm', _STM, ('eager',))),
    'matching': Part(70, OURS, matching),
    'operations': Part(40, OURS, operations),
    'giel_small': Part(260, OURS, _part(trained, 'giel_small', 'giel_small.py', _ON_GPU)),
    'giel_lite': Part(260, OURS, _part(trained, 'giel_lite', 'giel_lite.py:fast,gpu', ())),
    'giel_float32': Part(60, OURS, _part(inference, (_GIEL,), 'float32')),
    'training_pytorch_compiled': Part(
        150, PYTORCH, _part(pytorch, 'giel', _GIEL, ('compiled',), part='training')
    ),
}


def _median_ms(function, count=10):
    import jax
    import numpy as np

    times = []
    for _ in range(count + 1):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


def _rate(function, work):
    return {'tflops': work / _median_ms(function) / 1e9}


def _back_to_back_ms(dispatch, count):
    """Milliseconds of a frame where the next one is dispatched before the last has been fetched."""
    import jax

    jax.block_until_ready(dispatch())
    start = time.perf_counter()
    for _ in range(count):
        result = dispatch()
    jax.block_until_ready(result)
    return 1000 * (time.perf_counter() - start) / count


def _dispatch_ms(dispatch, count):
    """Milliseconds until the call returns: the host's share, which the device waits for."""
    import jax
    import numpy as np

    times = []
    for _ in range(count):
        start = time.perf_counter()
        result = dispatch()
        times.append(1000 * (time.perf_counter() - start))
        jax.block_until_ready(result)
    return float(np.median(times))


class Rows:
    """Appends rows to a file; each is on the disk before the next one is measured."""

    def __init__(self, path):
        self._path = Path(path)

    def add(self, **row):
        text = json.dumps(row, default=str)
        with open(self._path, 'a') as file:
            file.write(text + '\n')
            file.flush()
            os.fsync(file.fileno())
        print(text, flush=True)


def run_part(name, scale, rows):
    """Measures the rows of a part in this process; what goes wrong in one is its row."""
    from benchmarks import measuring

    rows.add(part=name, machine=measuring.machine())
    for what, measure in PARTS[name].rows(scale):
        before = measuring.peak_memory()
        try:
            found = {key: _rounded(value) for key, value in measure().items()}
            # JAX has no way to begin a new peak on a device: what is not above it is not known.
            if before['memory'] == 'device' and found.get('peak_mb', 0) <= _rounded(
                before['peak_mb']
            ):
                found.pop('peak_mb', None)
        except Exception as error:
            found = {'error': f'{type(error).__name__}: {first_line(error, most=300)}'}
        rows.add(part=name, what=what, **found)


def _rounded(value):
    return round(value, 4) if isinstance(value, float) else value


def run_all(names, out, budget_s, tiny):
    """Runs each part in a process of its own; gives whether all came to their end."""
    rows, begin, is_whole = Rows(out / 'rows.jsonl'), time.monotonic(), True
    for name in names:
        part, left = PARTS[name], budget_s - (time.monotonic() - begin)
        if left < LEAST_S:
            rows.add(part=name, error='left out: the budget is used up')
            is_whole = False
            continue
        command = [sys.executable, '-m', 'benchmarks.gpu', f'--out={out}', f'--part={name}']
        environment = part.environment | ({'JAX_PLATFORMS': 'cpu'} if tiny else {})
        limit_s = min(left, 600 if tiny else part.limit_s)
        code = _ended_in_time(
            [*command, f'--tiny={tiny}'],
            {**os.environ, **environment, 'PYTHONUNBUFFERED': '1'},
            limit_s,
        )
        if code:
            why = f'stopped after {limit_s:.0f} s' if code is _LATE else f'ended with code {code}'
            rows.add(part=name, error=why)
            is_whole = False
    print(f'rows: {out / "rows.jsonl"}; {time.monotonic() - begin:.0f} s')
    return is_whole


_LATE = 'late'


def _ended_in_time(command, environment, limit_s):
    """Exit code of a process, or _LATE; what it has started ends with it and frees the device."""
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGTERM)  # a run that trains saves its state
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        return _LATE
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def main(argv):
    """Checks the flags, then runs one part (in a child) or all."""
    del argv
    wanted = flags.FLAGS
    if unknown := [name for name in wanted.parts if name not in PARTS]:
        raise InputError(f"--parts has '{unknown[0]}'; known: {', '.join(PARTS)}")
    out = Path(wanted.out)
    out.mkdir(parents=True, exist_ok=True)
    if wanted.data:
        os.environ['VOS_DATA'] = str(Path(wanted.data).resolve())
    if wanted.part:
        scale = dataclasses.replace(TINY if wanted.tiny else Scale(), out=out.resolve())
        run_part(wanted.part, scale, Rows(out / 'rows.jsonl'))
        return
    if not wanted.tiny:
        _check_gpu()
    if not run_all(wanted.parts or list(PARTS), out, wanted.budget, wanted.tiny):
        sys.exit(1)


def _check_gpu():
    from benchmarks import measuring

    found = measuring.in_own_process(measuring.machine)
    if found['backend'] != 'gpu':
        raise InputError(
            f'no GPU: JAX runs on {found["backend"]}; install jax[cuda13] on a machine with a GPU, '
            'or see that the command works with --tiny'
        )


if __name__ == '__main__':
    flags.DEFINE_string('out', 'runs/gpu', 'Folder of rows.jsonl; rows are added to what is there.')
    flags.DEFINE_float('budget', 900.0, 'Seconds for all parts.')
    flags.DEFINE_string('data', None, 'Folder of data sets to train on, instead of VOS_DATA.')
    flags.DEFINE_list('parts', [], f'Which, in their order: {", ".join(PARTS)}.')
    flags.DEFINE_bool('tiny', False, 'The smallest models and frames: shows that all parts run.')
    flags.DEFINE_enum('part', None, list(PARTS), 'One part, in this process.')
    run_main(main)
