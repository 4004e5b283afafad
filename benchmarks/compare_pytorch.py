"""Our code beside PyTorch: python -m benchmarks.compare_pytorch --model=giel|stm|cfbi_matching.

The same model with the same made-up weights runs on the same made-up input in both: inference
(frames through the Python API, as benchmarks.inference), the train step (forward, backward, Adam;
no rematerialisation), or CFBI's matchings. PyTorch (benchmarks/pytorch) runs eagerly and, where it
works, through torch.compile. For each part

- each code runs alone in a process of its own: time of the first call, with its compilation, and
  the largest memory in use after it;
- then all are warmed up in one process and take turns: time of a unit, and how many times as fast
  as each PyTorch our code is.

All cores that the process may use (`taskset -c 0,1` for two). Writes a JSON and a plot beside it.
"""

from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import bars, configs, contestants, measuring
from benchmarks.contestants import CODES, PARTS, Task
from vos_jax.errors import InputError, run_main
from vos_jax.storage.names import parse_size

CONFIGS = {'giel': 'configs/giel_resnet50.py', 'stm': 'configs/stm_resnet50.py'}
SIZES = {'inference': '854x480', 'training': '384x384', 'cfbi_matching': '849x481'}
COLUMNS = 'part size objects code ms best_ms cpu_ms first_s peak_mb ratio cpu_ratio difference'


def alone(task, code, warm_up=1):
    """First call and memory of one code; a row with `error` where torch.compile does not work."""
    measuring.without_cached_compilations()
    try:
        one = contestants.make(task, code)
    except Exception as error:
        if code != 'compiled':
            raise
        return {'error': f'{type(error).__name__}: {error}'.splitlines()[0][:200]}
    measuring.forget_peak_memory()
    for _ in range(warm_up):
        one.step()
    return {'first_s': one.first_s} | measuring.peak_memory(code != 'vos_jax')


def together(task, codes, count):
    """Rows of all codes, by code; they take turns."""
    made = {code: contestants.make(task, code) for code in codes}
    for one in made.values():
        one.step()
    rows = dict(zip(made, measuring.take_turns([one.step for one in made.values()], count)))
    for code, row in rows.items():
        if code != 'vos_jax':
            for name, time in (('ratio', 'ms'), ('cpu_ratio', 'cpu_ms')):
                row[name] = row[time] / rows['vos_jax'][time]
            row['difference'] = describe_difference(
                task.part, made['vos_jax'].result, made[code].result
            )
    return rows, measuring.machine()


def describe_difference(part, ours, its):
    """How far the first results of two codes are apart, as text.

    >>> describe_difference('training', np.array(2.0), np.array(2.002))
    'loss 1.0e-03'
    """
    if part == 'inference':
        return f'{(ours != its).mean():.3%} of labels'
    largest = np.abs(ours - its).max()
    if part == 'training':
        return f'loss {largest / np.abs(its):.1e}'
    return f'{largest / max(np.abs(its).max(), 1e-30):.1e}'


def compare(task, codes, count):
    """Rows of one part of a model."""
    apart = {}
    for code in codes:
        print(f'{task.model}, {task.part}: {CODES[code]} alone', flush=True)
        apart[code] = measuring.in_own_process(alone, task, code)
        if 'error' in apart[code]:
            print(f'  does not work here: {apart[code]["error"]}')
    working = [code for code in codes if 'error' not in apart[code]]
    print(f'{task.model}, {task.part}: in turns', flush=True)
    rows, machine = measuring.in_own_process(together, task, working, count)
    size = f'{task.size[1]}x{task.size[0]}'
    about = {'part': task.part, 'size': size, 'objects': task.objects, 'batch': task.batch}
    return [
        about | {'code': CODES[code]} | apart[code] | rows.get(code, {}) for code in codes
    ], machine


def main(argv):
    """Compares and prints; one row for each part and code."""
    del argv
    wanted = flags.FLAGS
    measuring.check_pytorch()
    tasks = make_tasks(wanted)
    codes = ['vos_jax', *[code for code in CODES if code in wanted.pytorch]]
    out = Path(wanted.out or f'runs/compare_pytorch/{wanted.model}.json')
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for task in tasks:
        count = wanted.steps if task.part == 'training' else wanted.frames
        more, machine = compare(task, codes, count)
        rows += more
    print(measuring.describe(machine))
    measuring.print_table(rows, COLUMNS)
    figures = {'benchmark': 'compare_pytorch', 'model': wanted.model, 'config': tasks[0].config}
    measuring.write_json(out, figures | {'machine': machine, 'rows': rows})
    title = f'{wanted.model}: {measuring.describe(machine)}'
    bars.write(out.with_suffix('.svg'), title, [row for row in rows if 'ms' in row])
    print(f'plot in {out.with_suffix(".svg")}')


def make_tasks(wanted):
    """Task of each part that the flags ask for.

    Raises:
      InputError: for a config, a size or a part that does not exist.
    """
    config = wanted.config or CONFIGS.get(wanted.model, '')
    if config:
        name = configs.load(config).model.name
        if name != wanted.model:
            raise InputError(f'{config}: the model is {name!r}; --model asks for {wanted.model!r}')
    parts = PARTS[wanted.model]
    if unknown := set(wanted.parts) - set(parts):
        raise InputError(f"--parts has '{unknown.pop()}'; {wanted.model} has: {', '.join(parts)}")
    tasks = []
    for part in wanted.parts or parts:
        default = SIZES.get(part) or SIZES['cfbi_matching']
        text = wanted.train_size if part == 'training' else wanted.size
        size = parse_size(text or default)
        if part == 'training' and wanted.model == 'stm' and any(side % 16 for side in size):
            raise InputError(f"--train_size is '{text}'; STM in PyTorch needs multiples of 16")
        tasks.append(
            Task(wanted.model, part, config, wanted.dtype, size, wanted.objects, wanted.batch)
        )
    return tasks


if __name__ == '__main__':
    flags.DEFINE_enum('model', 'giel', list(PARTS), 'What is compared.')
    flags.DEFINE_string('config', '', 'FILE[:VARIANT]; default: the published size.')
    flags.DEFINE_list('parts', [], 'Some of inference, training; for CFBI no choice but all.')
    flags.DEFINE_multi_enum('pytorch', ['eager', 'compiled'], ['eager', 'compiled'], 'How it runs.')
    flags.DEFINE_enum('dtype', '', ['', 'float32', 'bfloat16'], "Instead of the config's own.")
    flags.DEFINE_string('size', '', 'Frames, WIDTHxHEIGHT; default 854x480.')
    flags.DEFINE_string('train_size', '', 'Crop in training, WIDTHxHEIGHT; default 384x384.')
    flags.DEFINE_integer('objects', 1, 'Objects, all slots in use.', lower_bound=1)
    flags.DEFINE_integer('batch', 1, 'Clips of a train step.', lower_bound=1)
    flags.DEFINE_integer('frames', 10, 'Frames, or matchings, to time.', lower_bound=1)
    flags.DEFINE_integer('steps', 3, 'Train steps to time.', lower_bound=1)
    flags.DEFINE_string('out', '', 'JSON file; default runs/compare_pytorch/MODEL.json.')
    run_main(main)
