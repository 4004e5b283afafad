"""Segments and scores videos, scores masks of any program, compares runs.

  vos-evaluate --weights=FILE_OR_NAME --protocol=davis2017 --data=ROOT
  vos-evaluate --workdir=RUN --protocol=davis2017 --data=ROOT [--step=N | --follow]
  vos-evaluate --results=MASKS --protocol=davis2017 --data=ROOT
  vos-evaluate --compare=A,B

Protocols, forms of masks and several processes: docs/evaluation.md. Scoring masks loads neither jax
nor flax.
"""

import ast
import functools
import signal
import time
from pathlib import Path

from absl import flags as absl_flags
from absl import logging

from vos_jax import malloc
from vos_jax.commands import flags
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation import output_files, protocols
from vos_jax.evaluation.predictions import EXTRA_IDS, FORMS, OVERLAPS, open_results
from vos_jax.storage import disk
from vos_jax.storage.mirror import Mirror
from vos_jax.storage.paths import absolute, path_of

_SOURCES = ('weights', 'workdir', 'results', 'compare')
# A process that is done waits for the others, whatever they still have to do.
_DAY_S = 24 * 3600
_POLL_S = 10.0  # between two looks for a new checkpoint


def define_flags():
    flags.define_model()
    absl_flags.DEFINE_integer('last', None, '--workdir: the last N checkpoints', 1)
    absl_flags.DEFINE_bool('all', False, '--workdir: all checkpoints')
    absl_flags.DEFINE_bool('follow', False, '--workdir: each new checkpoint, until the run ends')
    absl_flags.DEFINE_string('results', None, 'folder of masks of any program: score')
    absl_flags.DEFINE_list('compare', None, 'folders of finished evaluations: A,B[,C]')
    # The protocol.
    absl_flags.DEFINE_enum('protocol', None, protocols.NAMES, 'rules of the evaluation')
    absl_flags.DEFINE_string('data', None, 'folder of the data set')
    absl_flags.DEFINE_string('split', None, 'list of sequences; default val, valid or train')
    absl_flags.DEFINE_string('resolution', None, 'DAVIS: folder of frames, such as 480p')
    absl_flags.DEFINE_bool('dense', False, 'YouTube-VOS: predict on all frames, not every fifth')
    absl_flags.DEFINE_string('videos', None, 'local hold-out: file of video names')
    absl_flags.DEFINE_string('unseen', None, 'local hold-out: file of unseen categories')
    # The results.
    absl_flags.DEFINE_string('out', None, 'folder of the results; default runs/evaluation/...')
    absl_flags.DEFINE_bool('zip', False, 'pack the masks for the server of the protocol')
    absl_flags.DEFINE_bool('report', True, 'write report/index.html')
    flags.define_workers()
    batches = 'sequences of one size at a time; default 1, on accelerators 4'
    absl_flags.DEFINE_integer('batch_size', None, batches, 1)
    absl_flags.DEFINE_bool('overwrite', False, 'start again what is finished in --out')
    # Masks of other programs.
    absl_flags.DEFINE_enum('form', 'ids', FORMS, '--results: how the masks are written')
    absl_flags.DEFINE_enum('overlap', 'error', OVERLAPS, '--form=objects: who keeps a pixel')
    absl_flags.DEFINE_enum('extra-ids', 'error', EXTRA_IDS, '--results: ids that are no object')
    # How frames are seen.
    absl_flags.DEFINE_integer('enlarge_to', None, 'shorter edge of small frames, for the model')
    absl_flags.DEFINE_list('scales', None, 'average results at these scales, as 1.0,1.3')
    absl_flags.DEFINE_bool('flip', None, 'average with the result of mirrored frames')
    absl_flags.DEFINE_integer('max_edge', None, 'longest edge of a frame at scale 1')
    absl_flags.DEFINE_multi_string(
        'model', [], "NAME=VALUE: a setting of the model's instead of that stored; may be repeated"
    )
    flags.define_processes()


def main(argv):
    """Does what the flags say; raises InputError for what is wrong in them or in the files."""
    wanted = absl_flags.FLAGS
    flags.refuse_arguments(argv)
    chosen = [name for name in _SOURCES if wanted[name].value]
    if len(chosen) != 1:
        given = ', '.join(f'--{name}' for name in chosen) or 'none'
        raise InputError(
            f'need one of --weights, --workdir, --results, --compare; given: {given}. '
            'See docs/evaluation.md'
        )
    if wanted.compare:
        _compare(wanted)
    elif wanted.results:
        _score(wanted)
    else:
        _segment(wanted)


def _compare(wanted):
    names = '-'.join(Path(folder).resolve().name for folder in wanted.compare)
    out = wanted.out or f'runs/evaluation/compare/{names}'
    with disk.writing_to(out) as mirror:
        output_files.compare(wanted.compare, mirror.folder)


def _score(wanted):
    if not Path(wanted.results).is_dir():
        raise InputError(f'{wanted.results}: no such folder; --results is a folder of masks')
    _require_protocol(wanted)
    protocol = _load_protocol(wanted, need_frames=False)
    predictions = open_results(
        wanted.results,
        form=wanted.form,
        overlap=wanted.overlap,
        extra_ids=wanted['extra-ids'].value,
    )
    out = _output_folder(wanted, protocol, wanted.results)
    with disk.writing_to(out) as mirror:
        output_files.score_results(
            protocol,
            predictions,
            mirror.folder,
            zipped=wanted.zip,
            report=wanted.report,
            num_workers=wanted.workers,
        )


def _segment(wanted):
    _require_protocol(wanted)
    flags.check_model(wanted)
    malloc.restart_with_huge_pages()
    _check_steps(wanted)
    protocol = _load_protocol(wanted, need_frames=True)
    out = _output_folder(wanted, protocol, wanted.weights or wanted.workdir)
    disk.prepare_folder(out)
    # Before anything is read onto a device.
    processes = flags.join_processes(wanted, shutdown_timeout_s=_DAY_S)
    import jax

    with processes.ending_together():
        if jax.process_count() > 1:  # JAX waits for a point to stop at, which is not needed here
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        processes.check_same({**flags.values(wanted), '--out': str(absolute(out))})
        processes.check_shared(out)
        _segment_share(wanted, protocol, out)


def _segment_share(wanted, protocol, out):
    # Here and not above: this loads jax, which scoring and comparing do without.
    from vos_jax.evaluation import run

    with disk.explain_disk_errors(out), Mirror(out) as mirror:
        options = run.Options(
            zipped=wanted.zip,
            report=wanted.report,
            num_workers=wanted.workers,
            overwrite=wanted.overwrite,
            batch_size=wanted.batch_size,
            mirror=mirror,
        )
        out = mirror.folder
        if wanted.follow or wanted.last or wanted.all:
            steps = _steps_to_come(wanted) if wanted.follow else _steps(wanted)
            as_chosen = functools.partial(_as_chosen, wanted)
            run.evaluate_steps(steps, wanted.workdir, as_chosen, protocol, out, options)
        else:
            run.evaluate(_as_chosen(wanted, flags.open_model(wanted)), protocol, out, options)


def _check_steps(wanted):
    """Refuses more than one of --step, --last, --all and --follow, and those without a run."""
    given = [name for name in ('last', 'all', 'follow') if wanted[name].value]
    is_step = not wanted['step'].using_default_value
    if given and (not wanted.workdir or len(given) + is_step > 1):
        raise InputError(
            f'--{given[0]} needs --workdir and none of --step, --last, --all, --follow beside it'
        )


def _steps(wanted):
    """The checkpoints of a run that the flags name."""
    from vos_jax import checkpoint_files, processes

    # Of all processes the first decides: another may see one more.
    steps = processes.gathered(checkpoint_files.list_steps(wanted.workdir))[0]
    if not steps:
        raise InputError(f'{wanted.workdir}: no checkpoint; --workdir is a run of train.py')
    return steps if wanted.all else steps[-wanted.last :]


def _steps_to_come(wanted):
    """Each checkpoint of a run, the newest first, until the run's last step."""
    from vos_jax import checkpoint_files, processes, recipe

    seen, last, is_told = set(), None, False
    while True:
        try:
            steps = checkpoint_files.list_steps(wanted.workdir)
            last = recipe.stored(wanted.workdir).training.steps  # a run may be resumed with more
        except InputError as error:
            if last is None:
                raise
            logging.warning('%s', error)  # a bucket's service may answer at the next look
            steps = []
        steps, last = processes.gathered((steps, last))[0]
        new = [step for step in steps if step not in seen]
        if new:
            seen.add(new[-1])
            is_told = False
            yield new[-1]
        elif last in seen:
            return
        else:
            if not is_told:
                newest = f'after step {max(seen):,}' if seen else ''
                processes.say(f'waiting for a checkpoint {newest}; the run ends at step {last:,}')
            is_told = True
            time.sleep(_POLL_S)


def _as_chosen(wanted, model):
    """The model with the settings of the flags that say how frames are seen."""
    model = model.with_memory(wanted.memory)
    model = model.with_settings('model', **_model_settings(wanted.model))
    views = {name: wanted[name].value for name in ('enlarge_to', 'flip', 'max_edge')}
    return model.with_settings('inference', scales=_scales(wanted), **views)


def _model_settings(texts):
    """Values by name of texts as 'global_atrous=2'."""
    settings = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals or not name.isidentifier():
            raise InputError(f'--model={text}: needs NAME=VALUE, as --model=scale=1.5')
        try:
            settings[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            settings[name] = value  # a word
    return settings


def _scales(wanted):
    try:
        return tuple(float(scale) for scale in wanted.scales) if wanted.scales else None
    except ValueError:
        raise InputError(f'--scales={",".join(wanted.scales)}: needs numbers, as 1.0,1.3') from None


def _require_protocol(wanted):
    flags.require(wanted, ('protocol', 'data'), 'docs/evaluation.md')


def _load_protocol(wanted, need_frames):
    """Lists the sequences that the flags name."""
    return protocols.load(
        wanted.protocol,
        wanted.data,
        wanted.split,
        resolution=wanted.resolution,
        dense=wanted.dense,
        need_frames=need_frames,
        videos=wanted.videos,
        unseen=wanted.unseen,
    )


def _output_folder(wanted, protocol, source):
    """--out, or a folder named for the protocol and what is evaluated."""
    path = absolute(path_of(source))
    name = path.stem if path.suffix == '.npz' else path.name
    return path_of(wanted.out or f'runs/evaluation/{protocol.label}/{name}')


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
