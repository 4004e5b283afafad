"""Segments the sequences of a protocol on all devices and scores them. The one module with jax."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from vos_jax import checkpoint_files, compilation, processes, trained
from vos_jax.config import plain
from vos_jax.errors import InputError
from vos_jax.evaluation import output_files
from vos_jax.evaluation.ledger import Ledger
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Protocol
from vos_jax.evaluation.results import Results, global_scores, table
from vos_jax.evaluation.scoring import deal
from vos_jax.evaluation.segmenting import segment_all
from vos_jax.inference.batch import make_lanes
from vos_jax.storage import checksum, disk
from vos_jax.storage.mirror import Mirror
from vos_jax.trained import TrainedModel

_POLL_S = 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run leaves behind, and how.

    Attributes:
      zipped, report: whether to write them.
      num_workers: processes for the report; None takes one per core.
      overwrite: start anew what is finished.
      batch_size: sequences of one frame size that a device segments at a time; None: one on CPUs,
        up to 4 on accelerators.
      mirror: by which several processes see each other's files where their folder is in a bucket.
    """

    zipped: bool = False
    report: bool = True
    num_workers: int | None = None
    overwrite: bool = False
    batch_size: int | None = None
    mirror: Mirror | None = None


def evaluate_steps(
    steps: Iterable[int],
    workdir: str,
    as_chosen: Callable[[TrainedModel], TrainedModel],
    protocol: Protocol,
    out: Path,
    options: Options,
) -> None:
    """Evaluates several checkpoints of a run, each into a folder of its own, and names the best.

    Args:
      steps: the next is asked for when one is evaluated. One whose checkpoint was removed
        meanwhile, for newer ones, is left out.
      workdir: of the run.
      as_chosen: gives a model the settings with which it is evaluated.
      protocol, out, options: as for `evaluate`.

    Raises:
      InputError: where checkpoints are damaged, after the others were evaluated.
    """
    rows, names, damaged = [], (), []
    for step in steps:
        model, reason = _open_step(workdir, step)
        if reason:
            damaged.append(f'{step}')
            processes.say(f'error: {reason}', sys.stderr)
        if model is None:
            continue
        results = evaluate(as_chosen(model), protocol, out / f'step-{step}', options)
        if results is not None:
            rows.append((step, *global_scores(results).values()))
            names = tuple(global_scores(results))
    if rows and protocol.is_scored:
        print(table(('step', *names), [(str(step), *scores) for step, *scores in sorted(rows)]))
        best = max(rows, key=lambda row: row[1])
        print(f'best: step {best[0]}, J&F {100 * best[1]:.1f}, {out / f"step-{best[0]}"}')
    if damaged:
        processes.gathered(None)  # who ends before the others are done would end them
        raise InputError(f'not evaluated: {", ".join(damaged)}, as said above')


def _open_step(workdir, step):
    """The model of a checkpoint, None where a process cannot read it; why it is damaged, or ''."""
    model, reason = None, ''
    try:
        model = trained.open_run(workdir, step)
    except InputError as error:
        reason = str(error)
        with contextlib.suppress(InputError):  # the service of a bucket does not answer at all
            if step not in checkpoint_files.list_steps(workdir):
                reason = ''
    found = processes.gathered((model is not None, reason))
    reason = next((reason for _, reason in found if reason), '')
    return model if all(has_it for has_it, _ in found) else None, reason


def evaluate(
    model: TrainedModel, protocol: Protocol, out: Path, options: Options
) -> Results | None:
    """Segments, scores and reports; resumes where an earlier run of the same ended.

    With several processes, which have joined before, each takes its share of the sequences, on all
    its devices, and process 0 puts the results together; the others return None. They share the
    folder `out`.
    """
    start_s = time.monotonic()
    compilation.keep_compilations()
    devices = jax.local_devices()
    model = model.on(devices[0].platform)
    _check_inputs(protocol)
    disk.prepare_folder(out)
    ledger = _open_ledger(model, protocol, out, options)
    lengths = [len(task.sequence.required) for task in protocol.tasks]
    share = deal(protocol.tasks, lengths, jax.process_count())[jax.process_index()]
    _announce(protocol, model, devices)
    try:
        records = _segment_share(model, share, ledger, devices, options.batch_size)
    except Exception as error:
        if jax.process_count() > 1:
            ledger.report_failure(jax.process_index(), error)
        raise
    if jax.process_index() != 0:
        return None  # process 0 puts the results together
    others = [task for task in protocol.tasks if task not in share]
    records += _wait_for(ledger, others, options.mirror)
    header = {**model.about, **_describe_run(model, records, devices, time.monotonic() - start_s)}
    return output_files.finish(
        protocol,
        Predictions(ledger.masks),
        [record.result for record in records],
        header,
        out,
        zipped=options.zipped,
        report=options.report,
        num_workers=options.num_workers,
    )


def _announce(protocol, model, devices):
    num_frames = sum(len(task.sequence.required) for task in protocol.tasks)
    count = jax.process_count()
    process = f', process {jax.process_index() + 1} of {count}' if count > 1 else ''
    print(
        f'{protocol.label}: {len(protocol.tasks)} sequences, {num_frames} frames of '
        f'{protocol.root}; {len(devices)} x {devices[0].device_kind}{process}, in '
        f'{model.config.computes_in}'
        f'{protocol.note and "; "}{protocol.note}'
    )


def _segment_share(model, share, ledger, devices, batch_size):
    """Records of all sequences of this process; those that are finished are not made again."""
    found = {task.name: ledger.read(task) for task in share}
    records = [record for record in found.values() if record is not None]
    todo = [task for task in share if found[task.name] is None]
    if records:
        print(f'{len(records)} of {len(share)} sequences are finished already')
    if not todo:
        return records
    segmenters = [model.segmenter(device=device) for device in devices[: len(todo)]]
    lanes = make_lanes(segmenters, batch_size)
    return records + list(segment_all(lanes, todo, ledger, len(records)))


def _check_inputs(protocol):
    """Reads the masks given and the heads of the annotations: better now than in an hour."""
    for task in protocol.tasks:
        for stem in task.sequence.given:
            task.read_given(stem)
        for stem in task.scored:
            task.check_truth(stem)


def _open_ledger(model, protocol, out, options):
    ledger = Ledger(out)
    identity = {
        'protocol': protocol.label,
        'data': str(protocol.root.resolve()),
        'weights': f'crc32 {model.fingerprint}',
        'settings': _settings(model),
    }
    if jax.process_count() > 1:
        own = {name: value for name, value in identity.items() if name != 'data'}
        sequences = {task.name: _of_annotations(task) for task in protocol.tasks}
        processes.check_same({**own, 'sequences': sequences})
    mirror = options.mirror or Mirror(out)
    if jax.process_index() == 0:
        mirror.fetch()
        ledger.open(identity, options.overwrite)
        mirror.upload()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices('output folder is ready')
    mirror.fetch()
    return ledger


def _of_annotations(task):
    """What is read of a sequence and its annotations, as text."""
    value = checksum.of_bytes(repr((task.sequence.required, task.scored)).encode())
    for stem in sorted({*task.sequence.given, *task.scored}):
        value = checksum.of_file(task.sequence.masks[stem], value)
    return f'{len(task.sequence.required)} frames, ids {task.ids}, crc32 {value:08x}'


def _settings(model):
    """What decides the masks beside the weights, as text by dotted name."""
    chosen = {name: getattr(model.config, name) for name in ('model', 'inference', 'precision')}
    return {name: str(value) for name, value in plain.flatten(chosen).items()}


def _wait_for(ledger, tasks, mirror):
    """Waits for the sequences of the other processes, which appear in the shared folder."""
    records = []
    for task in tasks:
        while (record := ledger.read(task)) is None:
            if failure := ledger.find_failure(jax.process_count()):
                raise InputError(f'{failure}; the sequences of the others are kept')
            time.sleep(_POLL_S)
            if mirror is not None:
                mirror.fetch()
        records.append(record)
    return records


def _describe_devices(devices):
    kind, platform = devices[0].device_kind, devices[0].platform
    text = f'{len(devices)} x {kind}' + (f' ({platform})' if platform != kind else '')
    count = jax.process_count()
    return f'{text} in each of {count} processes' if count > 1 else text


def _describe_run(model, records, devices, elapsed_s):
    """Device, speed and memory, for results.json and the report."""
    frames = sum(record.timing.frames for record in records)
    seconds = sum(record.timing.seconds for record in records)
    compiled = sum(record.timing.compiled_frames for record in records)
    host, device = compilation.peak_memory()
    return {
        'device': _describe_devices(devices),
        'software': f'jax {jax.__version__}',
        'fps': frames / seconds if seconds else math.nan,
        'fps_includes': 'one device; from the frame in host memory to the ids in host memory, all '
        'objects, while frames are read ahead and masks written in the background; without scoring '
        f'and the {compiled} frames that compiled',
        'seconds_of_this_command': elapsed_s,
        'peak_host_memory_gb': host / 2**30,
        'peak_device_memory_gb': device and device / 2**30,
        'settings': _settings(model),
    }
