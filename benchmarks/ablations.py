"""The ablations of the papers, retrained briefly: python -m benchmarks.ablations --init=ENCODER.npz

GIEL's Table 1 and CFBI's Tables 4 and 5: every row is trained with the same start, data and steps,
evaluated on the same sequences, and put beside the paper's figure; so are other shares of still
images. The same command again resumes where it stopped, and prints the table of what is finished;
OUT/ablations.json holds it too, as a record of docs/measurements. Rows of the support set read the
memory otherwise with the weights of the full model, as the paper's do.

--seeds=0,1,2 trains each row three times; intervals then draw from the sequences of all.
On two quiet cores GIEL's table takes an hour and a half, CFBI's three.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import measuring
from vos_jax import recipe
from vos_jax.data import roots
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation import compare, results

FULL = 'full'
HEADER = ('model', 'row', 'seeds', 'J', 'F', 'J&F', 'less full', '95 % interval', "paper's", 'sign')


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a paper's table.

    Attributes:
      model, name: what it is called here, as 'giel/no_global'.
      paper: J&F on DAVIS-2017 val there, in percent; None where the paper's text does not say.
      settings: of training, by dotted name.
      memory: settings of `inference.memory`; the weights are those of the full model then.
      recipe: instead of that of the model.
    """

    model: str
    name: str
    paper: float | None
    settings: Mapping = dataclasses.field(default_factory=dict)
    memory: Mapping = dataclasses.field(default_factory=dict)
    recipe: str = ''

    @property
    def title(self):
        """Model and name."""
        return f'{self.model}/{self.name}'

    @property
    def trained_as(self):
        """Name of the row whose weights it reads."""
        return FULL if self.memory else self.name


def _sampled(size):
    return {'policy': 'sample', 'size': size}


# GIEL, Table 1: means of the J and F there.
GIEL = (
    Row('giel', FULL, 82.75),
    Row('giel', 'no_instance', 79.1, {'model.use_instance': False}),
    Row('giel', 'no_global', 81.4, {'model.use_global': False}),
    Row('giel', 'no_temporal_attention', 81.55, {'model.temporal_attention': 'none'}),
    Row('giel', 'no_refine_decoder', 81.2, {'model.variant': 'fast'}),
    Row('giel', 'support_first', 73.15, memory={'policy': 'first'}),
    Row('giel', 'support_previous', 72.0, memory={'policy': 'previous'}),
    Row('giel', 'support_2', 82.45, memory=_sampled(2)),
    Row('giel', 'support_3', 82.45, memory=_sampled(3)),
    Row('giel', 'support_4', 82.4, memory=_sampled(4)),
    Row('giel', 'support_5', 82.75, memory=_sampled(5)),
    Row('giel', 'support_6', 82.6, memory=_sampled(6)),
)
# Not of the papers' tables: what still images give, as STM's authors asked of theirs (60.4 of J on
# DAVIS-2017 from stills alone, 43.0 from video alone, 71.6 from one after the other). The full
# model has 15 % of stills among its videos.
NO_STILLS = {f'data.sources.{name}.weight': 0 for name in ('still_regions', 'static_images')}
STAGES = (
    Row('giel', 'video_alone', None, NO_STILLS),
    Row('giel', 'stills_alone', None, recipe='configs/giel_lite.py:fast,stills=1,steps=400'),
    Row('giel', 'stills_first', None, recipe='configs/giel_lite.py:fast,stills=0.25,steps=400'),
)
NO_MATCHING = {'model.matching_background': False}
NO_ATTENTION = {'model.attention_background': False}
# CFBI, Tables 4 and 5. Of 73.0 and 72.3 the text does not say which is which.
CFBI = (
    Row('cfbi', FULL, 74.9),
    Row('cfbi', 'no_background', 70.9, {**NO_MATCHING, **NO_ATTENTION}),
    Row('cfbi', 'no_matching_background', None, NO_MATCHING),
    Row('cfbi', 'no_attention_background', None, NO_ATTENTION),
    Row('cfbi', 'no_biases', 72.8, {'model.distance_bias': False}),
    Row('cfbi', 'one_window', 73.8, {'model.windows': '(6,)'}),
    Row('cfbi', 'no_sequential', 73.3, {'training.sequential_from': 1_000_000}),
    Row('cfbi', 'no_ensembler', 73.3, {'model.head': 'separable'}),
    Row('cfbi', 'no_balanced_crop', 72.8, {'data.balanced_pixels': 0}),
    Row('cfbi', 'no_instance_attention', 72.7, {'model.instance_attention': False}),
)
ROWS = (*GIEL, *STAGES, *CFBI)


def choose(names):
    """Rows by title or by model; of each model that is named the full one is always there.

    >>> [row.title for row in choose(['giel/no_global'])]
    ['giel/full', 'giel/no_global']
    >>> len(choose(['giel', 'cfbi']))
    25
    """
    for name in names:
        if not any(name in (row.model, row.title) for row in ROWS):
            titles = ', '.join(row.title for row in ROWS)
            raise InputError(f"--rows has '{name}'; needed: giel, cfbi or some of {titles}")
    models = {name.partition('/')[0] for name in names}
    return tuple(
        row
        for row in ROWS
        if row.model in names or row.title in names or (row.model in models and row.name == FULL)
    )


def overrides(row, seed, init):
    """Settings of the training of a row, as after `--config.`."""
    values = {'seed': seed, 'training.evaluate_every': 0, 'init': init, **row.settings}
    return [f'{name}={value}' for name, value in values.items()]


def read(row, spec, init):
    """The config that a row's weights are evaluated with; refuses what it may not have."""
    memory = [f'inference.memory.{name}={value}' for name, value in row.memory.items()]
    return recipe.load(row.recipe or spec, [*overrides(row, 0, init), *memory])


def train(row, spec, seed, wanted):
    """Trains a row to its end, or resumes it; gives its folder."""
    folder = Path(wanted.out) / row.model / row.trained_as / f'seed-{seed}'
    settings = [f'--config.{text}' for text in overrides(row, seed, wanted.init)]
    program = [sys.executable, '-m', 'vos_jax.commands.train', f'--config={row.recipe or spec}']
    finished = subprocess.run([*program, f'--workdir={folder}', *settings], check=False)
    if finished.returncode:
        raise InputError(f'{row.title}, seed {seed}: training ended with {finished.returncode}')
    return folder


def evaluate(workdir, memory, data, out):
    """Evaluates the last weights of a run on val lists; to be called in a process of its own."""
    from vos_jax import trained
    from vos_jax.config.read import changed
    from vos_jax.evaluation import protocols, run

    model = trained.open_run(workdir, 'latest')
    if memory:
        chosen = changed(model.config.inference.memory, 'inference.memory', **memory)
        model = model.with_settings('inference', memory=chosen)
    for root in data:
        protocol = protocols.load('davis2017', root)
        run.evaluate(model, protocol, out / Path(root).name, run.Options(report=False))


def scored(row, seed, wanted):
    """Results of a row on all sets together, None where it is not finished."""
    folders = [_scores_folder(row, seed, wanted) / Path(root).name for root in wanted.data]
    if not all((folder / results.FILE).is_file() for folder in folders):
        return None
    return _joined([results.read(folder) for folder in folders])


def _scores_folder(row, seed, wanted):
    return Path(wanted.out) / row.model / row.name / f'scores-{seed}'


def _joined(parts):
    sequences = tuple(sequence for part in parts for sequence in part.sequences)
    return dataclasses.replace(parts[0], sequences=sequences)


def table(rows, wanted):
    """Lines of the table of all rows that are finished with every seed that the full one has."""
    lines = []
    for row in rows:
        full = next(other for other in rows if (other.model, other.name) == (row.model, FULL))
        pairs = [(scored(full, seed, wanted), scored(row, seed, wanted)) for seed in wanted.seeds]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            lines.append(_line(row, full, pairs))
    return lines


def _line(row, full, pairs):
    before, after = (_joined(side) for side in zip(*pairs))
    scores = [results.global_scores(result) for _, result in pairs]
    means = [100 * np.mean([one[key] for one in scores]) for key in ('J-Mean', 'F-Mean')]
    change = compare.bootstrap(before, after)
    theirs = None if row.paper is None else row.paper - full.paper
    agrees = '' if not theirs else 'same' if theirs * change.difference > 0 else 'other'
    return (
        row.model,
        row.name,
        str(len(pairs)),
        *(f'{value:.1f}' for value in (*means, np.mean(means))),
        f'{100 * change.difference:+.1f}',
        f'{100 * change.low:+.1f} to {100 * change.high:+.1f}',
        '?' if theirs is None else f'{theirs:+.1f}',
        agrees,
    )


def show(rows, wanted):
    """Prints the table and writes it beside the runs."""
    lines = table(rows, wanted)
    if not lines:
        return
    print(results.table(HEADER, lines), flush=True)
    record = {
        'device': measuring.describe(measuring.in_own_process(measuring.machine)),
        'command': f'python -m benchmarks.ablations --giel={wanted.giel} --cfbi={wanted.cfbi}',
        'columns': HEADER,
        'rows': lines,
    }
    measuring.write_json(Path(wanted.out) / 'ablations.json', record)


def main(argv):
    """Trains and evaluates what is not finished, one seed of all rows after the other."""
    del argv
    wanted = flags.FLAGS
    rows = choose(wanted.rows)
    specs = {'giel': wanted.giel, 'cfbi': wanted.cfbi}
    for row in rows:  # what is wrong is reported before the first hour
        read(row, specs[row.model], wanted.init)
    wanted.data = [str(roots.find_root(root)) for root in wanted.data]
    if wanted.init and not Path(wanted.init).is_file():
        raise InputError(f'--init={wanted.init}: no such file; see configs/giel_lite.py')
    wanted.seeds = [int(seed) for seed in wanted.seeds]
    for seed in wanted.seeds:
        for row in rows:
            if scored(row, seed, wanted) is not None:
                continue
            print(f'{row.title}, seed {seed}', flush=True)
            folder = train(row, specs[row.model], seed, wanted)
            out = _scores_folder(row, seed, wanted)
            measuring.in_own_process(evaluate, folder, dict(row.memory), wanted.data, out)
            show(rows, wanted)
    show(rows, wanted)


def define_flags():
    """Which rows, from which recipes, on which data."""
    flags.DEFINE_list('rows', ['giel', 'cfbi'], 'Models or rows, as giel/no_global.')
    flags.DEFINE_list('seeds', ['0'], 'Each trains all rows once.')
    flags.DEFINE_string('giel', 'configs/giel_lite.py:fast,stills=0,steps=400', 'Recipe of GIEL.')
    flags.DEFINE_string('cfbi', 'configs/cfbi_small.py:lite_brief', 'Recipe of CFBI.')
    flags.DEFINE_string('init', 'runs/efficientnet_lite0.npz', "Encoder of both; '': random.")
    flags.DEFINE_list(
        'data',
        ['davis_240p', 'davis_multi_240p'],
        'Roots of the sets whose val lists are evaluated, below the data folder.',
    )
    flags.DEFINE_string('out', 'runs/ablations', 'Folder of all runs and of the table.')


if __name__ == '__main__':
    run_main(main, define_flags)
