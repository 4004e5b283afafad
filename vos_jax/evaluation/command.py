"""The flags of evaluate.py and what they choose. Scoring masks loads neither jax nor flax."""

from pathlib import Path

from absl import flags

from vos_jax.errors import InputError
from vos_jax.evaluation import finish, protocols
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

STEP = flags.DEFINE_integer('step', None, '--workdir: checkpoint; default the newest')
LAST = flags.DEFINE_integer('last', None, '--workdir: the last N checkpoints')
OVERWRITE = flags.DEFINE_bool('overwrite', False, 'segment again what is finished in --out')


def main(argv):
    """Does what the flags say; raises InputError for what is wrong in them or in the files."""
    if len(argv) > 1:
        raise InputError(f'{argv[1]}: unexpected argument; all arguments are --flags')
    chosen = [flag for flag in (WEIGHTS, WORKDIR, RESULTS, COMPARE) if flag.value]
    if len(chosen) != 1:
        given = ', '.join(f'--{flag.name}' for flag in chosen) or 'none'
        raise InputError(
            f'need one of --weights, --workdir, --results, --compare; given: {given}. '
            'See docs/evaluation.md'
        )
    with finish.explain_disk_errors():
        if COMPARE.value:
            _compare()
        elif RESULTS.value:
            _score()
        else:
            _segment()


def _compare():
    names = '-'.join(Path(folder).resolve().name for folder in COMPARE.value)
    out = Path(OUT.value or f'runs/evaluation/compare/{names}')
    finish.prepare_folder(out)
    finish.compare(COMPARE.value, out)


def _score():
    if not Path(RESULTS.value).is_dir():
        raise InputError(f'{RESULTS.value}: no such folder; --results is a folder of masks')
    protocol = load_protocol(need_frames=False)
    predictions = open_results(
        RESULTS.value, form=FORM.value, overlap=OVERLAP.value, extra_ids=EXTRA.value
    )
    out = output_folder(protocol, Path(RESULTS.value).resolve().name)
    finish.prepare_folder(out)
    finish.score_results(
        protocol,
        predictions,
        out,
        zipped=ZIP.value,
        report=REPORT.value,
        num_workers=WORKERS.value,
    )


def _segment():
    # Here and not above: this loads jax, which scoring and comparing do without.
    from vos_jax.evaluation import run

    options = run.Options(
        zipped=ZIP.value,
        report=REPORT.value,
        num_workers=WORKERS.value,
        overwrite=OVERWRITE.value,
    )
    protocol = load_protocol(need_frames=True)
    if WEIGHTS.value:
        out = output_folder(protocol, Path(WEIGHTS.value).stem)
        run.evaluate_weights(WEIGHTS.value, protocol, out, options)
    else:
        out = output_folder(protocol, Path(WORKDIR.value).resolve().name)
        run.evaluate_workdir(WORKDIR.value, protocol, out, options, STEP.value, LAST.value)


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
