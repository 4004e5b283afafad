"""Times what each repair of XLA's CPU backend gains: python -m benchmarks.repairs.

A frame step (`--part=frame`) or a train step of a config is compiled with all repairs and without
one of them; the programs take turns, so that what else the machine does hits all alike. The gain
is that of CPU time: 25 % where the program without the repair takes 1.25 times as long.
"""

import jax
import numpy as np
from absl import flags

from benchmarks import configs, inputs, measuring, train_step
from vos_jax.errors import run_main
from vos_jax.inference import temporal
from vos_jax.models import protocol, registry
from vos_jax.ops import aggregation
from vos_jax.ops.cpu import switch
from vos_jax.storage.names import parse_size
from vos_jax.training import step as steps
from vos_jax.training.optimizer import make_optimizer

COLUMNS = 'config part repair ms cpu_ms gain_percent'
NUM_MEMORY = 5


def measure(spec, part, size, num_objects, repairs, *, count, batch):
    """Rows of one config: all repairs first, then without each of `repairs`, then without any.

    Args:
      spec: FILE[:VARIANT]; part: 'frame' or 'train'; size: (height, width).
      num_objects: objects of the frames or slots of the batch.
      repairs: names of `switch.REPAIRS`.
      count: calls of each program; batch: clips of a train step.
    """
    measuring.without_cached_compilations()
    config = configs.load_for_device(spec)
    if part == 'frame':
        prepared = _frame_step(config, size, num_objects)
    else:
        prepared = _train_step(config, size, num_objects, batch)
    kept = {'': switch.REPAIRS}
    kept |= {name: tuple(r for r in switch.REPAIRS if r != name) for name in repairs}
    kept['all'] = ()
    programs = []
    for chosen in kept.values():
        with switch.using(chosen):
            programs.append(prepared())
    for program in programs:
        program()
    samples = [[] for _ in programs]
    for turn in range(count):
        for index in range(len(programs)):
            chosen = (index + turn) % len(programs)
            samples[chosen].append(measuring.timed(programs[chosen])[1:])
    rows = []
    for name, times in zip(kept, samples, strict=True):
        row = {'config': spec, 'part': part, 'repair': name} | measuring.summary_ms(times)
        # Pair by pair: a turn's programs ran under the same load.
        ratios = [mine[1] / whole[1] for mine, whole in zip(times, samples[0], strict=True)]
        rows.append(row | {'gain_percent': 100 * (float(np.median(ratios)) - 1)})
    return rows


def _frame_step(config, size, num_objects):
    model = registry.build(config.model)
    variables = jax.device_put(inputs.variables_of(model, num_objects))
    frames, labels = inputs.make_video(size, 2, num_objects)
    masks = np.stack([labels == index + 1 for index in range(num_objects)]).astype(np.float32)
    objects, now = np.ones((1, num_objects), bool), np.zeros(1, np.int32)
    features = jax.jit(lambda v, x: model.apply(v, x, method='encode'))(variables, frames[:1])
    given = protocol.given_masks(masks[None])
    previous = temporal.Previous(frames[:1], features, given, now)
    memorise = jax.jit(lambda *args: temporal.memorise(model, *args)[0])
    memory = protocol.assemble((memorise(variables, previous, objects),) * NUM_MEMORY)
    rest = jax.device_put((memory, previous, frames[1:], objects, now + 1))

    def step(variables, memory, previous, frame, objects, time):
        features = model.apply(variables, frame, method='encode')
        prediction, *_ = temporal.temporal_step(
            model, variables, memory, previous, features, objects, position=1, time=time
        )
        return aggregation.labels_of(prediction.logits)

    def compile_step():
        compiled = jax.jit(step).lower(variables, *rest).compile()
        return lambda: compiled(variables, *rest)

    return compile_step


def _train_step(config, size, slots, batch_size):
    model = registry.build(config.model)
    optimizer, _ = make_optimizer(config.optimizer, config.training.steps)
    batch = jax.device_put(inputs.make_batch(batch_size, config.data.clip_length, size, slots))
    state = train_step.make_state(model, optimizer, batch, config.training.ema_decay)
    state = jax.device_put(state)

    def compile_step():
        function = steps.make_train_step(model, optimizer, config)
        compiled = jax.jit(function).lower(state, batch).compile()
        return lambda: compiled(state, batch)

    return compile_step


def main(argv):
    """Measures and prints; one table per config and part."""
    del argv
    wanted = flags.FLAGS
    size, rows = parse_size(wanted.size), []
    for spec in wanted.config:
        configs.load(spec)
        for part in wanted.part:
            args = (spec, part, size, wanted.objects, wanted.repair)
            found = measuring.in_own_process(measure, *args, count=wanted.count, batch=wanted.batch)
            measuring.print_table(found, COLUMNS)
            rows += found
    measuring.write_json(wanted.out, {'benchmark': 'repairs', 'size': wanted.size, 'rows': rows})


if __name__ == '__main__':
    flags.DEFINE_list('config', ['configs/giel_resnet50.py'], 'FILE[:VARIANT] of the models.')
    flags.DEFINE_list('part', ['frame', 'train'], "'frame', 'train' or both.")
    flags.DEFINE_list('repair', list(switch.REPAIRS), 'Repairs to leave out, one at a time.')
    flags.DEFINE_string('size', '432x240', 'Frames, WIDTHxHEIGHT.')
    flags.DEFINE_integer('objects', 2, 'Objects.', lower_bound=1)
    flags.DEFINE_integer('batch', 1, 'Clips of a train step.', lower_bound=1)
    flags.DEFINE_integer('count', 7, 'Calls of each program.', lower_bound=1)
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
