"""The flags of evaluate.py and what they choose. Scoring masks loads neither jax nor flax."""

import dataclasses
import functools
from pathlib import Path

from absl import flags

from vos_jax.errors import InputError
from vos_jax.evaluation import output_files, protocols
from vos_jax.evaluation.predictions import EXTRA_IDS, FORMS, OVERLAPS, open_results

# What is evaluated: one of these.
WEIGHTS = flags.DEFINE_string('weights', None, 'file of weights (with its config): segment, score')
WORKDIR = flags.DEFINE_string('workdir', None, 'folder of a training run: segment, score')
RESULTS = flags.DEFINE_string('results', None, 'folder of masks of any program: score')
COMPARE = flags.DEFINE_list('compare', None, 'folders of finished evaluations: A,B[,C]')

PROTOCOL = flags.DEFINE_enum('protocol', None, protocols.NAMES, 'rules of the evaluation')
DATA = flags.DEFINE_string('data', None, 'folder of the data set')
SPLIT = flags.DEFINE_string('split', None, 'list of sequences; default val, valid or train')
RESOLUTION = flags.DEFINE_string('resolution', None, 'DAVIS: folder of frames, such as 480p')
DENSE = flags.DEFINE_bool('dense', False, 'YouTube-VOS: predict on all frames, not each fifth')
VIDEOS = flags.DEFINE_string('videos', None, 'local hold-out: file of video names')
UNSEEN = flags.DEFINE_string('unseen', None, 'local hold-out: file of unseen categories')

OUT = flags.DEFINE_string('out', None, 'folder of the results; default runs/evaluation/...')
ZIP = flags.DEFINE_bool('zip', False, 'pack the masks for the server of the protocol')
REPORT = flags.DEFINE_bool('report', True, 'write report/index.html')
WORKERS = flags.DEFINE_integer('workers', None, 'scoring processes; default one per core')

FORM = flags.DEFINE_enum('form', 'ids', FORMS, '--results: how the masks are written')
OVERLAP = flags.DEFINE_enum('overlap', 'error', OVERLAPS, '--form=objects: who keeps a pixel')
EXTRA = flags.DEFINE_enum('extra-ids', 'error', EXTRA_IDS, '--results: ids that are no object')

SCALES = flags.DEFINE_list('scales', None, 'CFBI: average results at these scales, as 1.0,1.3')
FLIP = flags.DEFINE_bool('flip', None, 'average with the result of mirrored frames')
MAX_EDGE = flags.DEFINE_integer('max_edge', None, 'CFBI: longest edge of a frame at scale 1')
ATROUS = flags.DEFINE_integer('atrous', None, 'CFBI: match each N-th row, column of references')
MATCHING = flags.DEFINE_enum(
    'matching_dtype', None, ('float32', 'bfloat16', 'float16'), 'CFBI: precision of the matching'
)

STEP = flags.DEFINE_string('step', None, '--workdir: latest (default), best, or a step')
LAST = flags.DEFINE_integer('last', None, '--workdir: the last N checkpoints')
COORDINATOR = flags.DEFINE_string('coordinator', None, "several processes: HOST:PORT, or 'auto'")
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'with --coordinator=HOST:PORT')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'with --coordinator=HOST:PORT')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'segment again what is finished in --out')


def main(argv, open_run):
    """Does what the flags say; raises InputError for what is wrong in them or in the files.

    Args:
      argv: what is left of the command line.
      open_run: function of a workdir that gives the config, the steps and a reader of variables of
        a training run. It comes from outside, since evaluation does not import training.
    """
    if len(argv) > 1:
        raise InputError(f'{argv[1]}: unexpected argument; all arguments are --flags')
    chosen = [flag for flag in (WEIGHTS, WORKDIR, RESULTS, COMPARE) if flag.value]
    if len(chosen) != 1:
        given = ', '.join(f'--{flag.name}' for flag in chosen) or 'none'
        raise InputError(
            f'need one of --weights, --workdir, --results, --compare; given: {given}. '
            'See docs/evaluation.md'
        )
    with output_files.explain_disk_errors():
        if COMPARE.value:
            _compare()
        elif RESULTS.value:
            _score()
        else:
            _segment(open_run)


def _compare():
    names = '-'.join(Path(folder).resolve().name for folder in COMPARE.value)
    out = Path(OUT.value or f'runs/evaluation/compare/{names}')
    output_files.prepare_folder(out)
    with output_files.explain_disk_errors(out):
        output_files.compare(COMPARE.value, out)


def _score():
    if not Path(RESULTS.value).is_dir():
        raise InputError(f'{RESULTS.value}: no such folder; --results is a folder of masks')
    protocol = load_protocol(need_frames=False)
    predictions = open_results(
        RESULTS.value, form=FORM.value, overlap=OVERLAP.value, extra_ids=EXTRA.value
    )
    out = output_folder(protocol, _stem(RESULTS.value))
    output_files.prepare_folder(out)
    with output_files.explain_disk_errors(out):
        output_files.score_results(
            protocol,
            predictions,
            out,
            zipped=ZIP.value,
            report=REPORT.value,
            num_workers=WORKERS.value,
        )


def _segment(open_run):
    # Here and not above: this loads jax, which scoring and comparing do without.
    from vos_jax.evaluation import run

    protocol = load_protocol(need_frames=True)
    options = run.Options(
        zipped=ZIP.value,
        report=REPORT.value,
        num_workers=WORKERS.value,
        overwrite=OVERWRITE.value,
        coordinator=COORDINATOR.value,
        num_processes=NUM_PROCESSES.value,
        process_id=PROCESS_ID.value,
    )
    out = output_folder(protocol, _stem(WEIGHTS.value or WORKDIR.value))
    with output_files.explain_disk_errors(out):
        if WEIGHTS.value:
            run.evaluate(_as_chosen(run.read_weights(WEIGHTS.value)), protocol, out, options)
        else:
            _segment_run(run, open_run(WORKDIR.value), protocol, out, options)


def _segment_run(run, opened, protocol, out, options):
    config, steps, read = opened

    def read_source(step):
        return _as_chosen(run.read_checkpoint(config, read, WORKDIR.value, step))

    sources = {step: functools.partial(read_source, step) for step in _choose_steps(steps)}
    if LAST.value:
        run.evaluate_steps(sources, protocol, out, options)
    else:
        (source,) = sources.values()
        run.evaluate(source(), protocol, out, options)


def _as_chosen(source):
    """The source with the settings of the flags that say how frames are seen."""
    changes = {
        'model': {'global_atrous': ATROUS.value, 'matching_dtype': MATCHING.value},
        'inference': {'scales': _scales(), 'flip': FLIP.value, 'max_edge': MAX_EDGE.value},
    }
    config = dict(source.config.items())
    for group, settings in changes.items():
        chosen = {name: value for name, value in settings.items() if value is not None}
        if chosen:
            config[group] = {**dict(config.get(group, {}).items()), **chosen}
    return dataclasses.replace(source, config=config)


def _scales():
    try:
        return SCALES.value and tuple(float(scale) for scale in SCALES.value)
    except ValueError:
        raise InputError(f'--scales={",".join(SCALES.value)}: needs numbers, as 1.0,1.3') from None


def _choose_steps(steps):
    """Gives what --step or --last name: steps, 'best' or 'latest'."""
    if LAST.value is None:
        step = STEP.value or 'latest'
        return [int(step) if step.isdigit() else step]
    if STEP.value is not None or LAST.value < 1:
        raise InputError('--last=N needs N of 1 or more, and no --step')
    if not steps:
        raise InputError(f'{WORKDIR.value}: no checkpoint; --workdir is a run of train.py')
    return steps[-LAST.value :]


def _stem(path):
    path = Path(path).resolve()
    return path.name if path.is_dir() else path.stem


def load_protocol(need_frames):
    """Lists the sequences that the flags name."""
    for flag in (PROTOCOL, DATA):
        if not flag.value:
            raise InputError(f'--{flag.name} is missing; see docs/evaluation.md')
    return protocols.load(
        PROTOCOL.value,
        DATA.value,
        SPLIT.value,
        resolution=RESOLUTION.value,
        dense=DENSE.value,
        need_frames=need_frames,
        videos=VIDEOS.value,
        unseen=UNSEEN.value,
    )


def output_folder(protocol, name):
    """Gives --out, or a folder named for the protocol and what is evaluated."""
    return Path(OUT.value or f'runs/evaluation/{protocol.label}/{name}')
