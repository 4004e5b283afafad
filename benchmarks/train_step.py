"""Times the train step: python -m benchmarks.train_step [--config=FILE[:VARIANT]] [--remat=...].

Forward, backward and optimizer on one made-up batch that is on the device already; the loader is
timed by benchmarks.data. One row per rematerialisation policy and dtype, each in a process of its
own, with --accumulate worked off in parts:
seconds of a step, compile time, XLA's planned memory (arguments and temporaries) and the largest
memory that was really in use.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import configs, inputs, measuring
from vos_jax import compilation
from vos_jax.config.schema import REMAT
from vos_jax.errors import InputError, run_main
from vos_jax.models import registry
from vos_jax.storage.names import parse_size
from vos_jax.training import flops
from vos_jax.training import step as steps
from vos_jax.training.optimizer import make_optimizer

DTYPES = ('float32', 'bfloat16')

COLUMNS = (
    'config dtype batch frames size objects remat accumulate s cpu_s tflop mfu compile_s '
    'planned_mb peak_mb memory'
)


def measure(spec, dtype, remat, *, batch, size, slots, num_steps, accumulate=1):
    """One row, for one policy of rematerialisation; slots 0: those of the config."""
    measuring.without_cached_compilations()
    # XLA's CPU backend finds the recomputed values of unrolled steps equal to the first ones, and
    # keeps those: only in a loop is less memory needed.
    unrolled = configs.load(spec).training.unrolled and remat == 'none'
    how = {'remat': remat, 'accumulate': accumulate, 'unrolled': unrolled}
    config = configs.load_for_device(spec, dtype, **how)
    length, slots = config.data.clip_length, slots or config.data.num_slots
    model = registry.build(config.model)
    optimizer, _ = make_optimizer(config.optimizer, config.training.steps)
    data = jax.device_put(inputs.make_batch(batch, length, size, slots))
    state = jax.device_put(make_state(model, optimizer, data, config.training.ema_decay))
    train_step = steps.make_train_step(model, optimizer, config)
    options = compilation.options_of_train_step(jax.default_backend())
    train_step = jax.jit(train_step, donate_argnums=0, compiler_options=options)
    tflop = flops.count(train_step.trace(state, data).jaxpr) / 1e12
    compiled, compile_s, _ = measuring.timed(lambda: train_step.lower(state, data).compile())
    state, metrics = compiled(state, data)
    measuring.forget_peak_memory()
    samples = []
    for _ in range(num_steps):
        (state, metrics), *times = measuring.timed(compiled, state, data)
        samples.append(times)
    if not jnp.isfinite(metrics['loss']):
        raise FloatingPointError(f'{spec}: the loss of made-up data is {metrics["loss"]}')
    times = measuring.summary_ms(samples)
    row = {
        'config': spec,
        'dtype': config.model.dtype,
        'batch': batch,
        'frames': length,
        'size': f'{size[1]}x{size[0]}',
        'objects': slots,
        'remat': remat,
        'accumulate': accumulate,
        's': times['ms'] / 1000,
        'best_s': times['best_ms'] / 1000,
        'cpu_s': times['cpu_ms'] / 1000,
        'tflop': tflop,
        'mfu': 1000 * tflop * 1e12 / times['ms'] / flops.peak(jax.devices()[0])[0],
        'compile_s': compile_s,
        'planned_mb': planned_mb(compiled),
    }
    return row | measuring.peak_memory() | {'machine': measuring.machine()}


def make_state(model, optimizer, batch, ema_decay):
    """A TrainState with made-up weights; see `inputs.fill`."""
    init = functools.partial(steps.init_state, model, optimizer, batch, ema=bool(ema_decay))
    shapes = jax.eval_shape(init, key=jax.random.key(0))
    params = inputs.fill(shapes.params)
    return shapes.replace(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=inputs.fill(shapes.batch_stats),
        ema=jax.tree.map(jnp.array, params) if shapes.ema else {},
        opt_state=optimizer.init(params),
    )


def planned_mb(compiled):
    """XLA's plan: arguments and temporaries; donated arguments hold the results."""
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    results = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return (plan.argument_size_in_bytes + plan.temp_size_in_bytes + results) / 2**20


def main(argv):
    """Measures and prints; one row per policy."""
    del argv
    wanted = flags.FLAGS
    config = configs.load(wanted.config)
    if unknown := set(wanted.remat) - set(REMAT):
        raise InputError(f"--remat has '{unknown.pop()}'; known: {', '.join(REMAT)}")
    height, width = config.data.crop
    size = parse_size(wanted.size or f'{width}x{height}')
    rows = []
    if unknown := set(wanted.dtype) - {'', *DTYPES}:
        raise InputError(f"--dtype has '{unknown.pop()}'; known: {', '.join(DTYPES)}")
    for dtype, remat in itertools.product(wanted.dtype or [''], wanted.remat):
        print(f'{wanted.config}, remat {remat} {dtype}', flush=True)
        rows.append(
            measuring.in_own_process(
                measure,
                wanted.config,
                dtype,
                remat,
                batch=wanted.batch,
                size=size,
                slots=wanted.objects,
                num_steps=wanted.steps,
                accumulate=wanted.accumulate,
            )
        )
    measuring.report('train_step', rows, COLUMNS, wanted.out)


if __name__ == '__main__':
    flags.DEFINE_string('config', 'configs/giel_resnet50.py', 'FILE[:VARIANT] of the run.')
    flags.DEFINE_list('dtype', [], "float32, bfloat16 or both, instead of the config's own.")
    flags.DEFINE_list(
        'remat', ['full', 'step', 'products', 'none'], 'Policies of rematerialisation.'
    )
    flags.DEFINE_integer('batch', 1, 'Clips in a batch.', lower_bound=1)
    flags.DEFINE_integer('accumulate', 1, 'Parts of the batch.', lower_bound=1)
    flags.DEFINE_integer('objects', 2, "Object slots; 0: the config's.", lower_bound=0)
    flags.DEFINE_string('size', '854x480', "Frames, WIDTHxHEIGHT; empty: the config's crop.")
    flags.DEFINE_integer('steps', 3, 'Steps to time.', lower_bound=1)
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
