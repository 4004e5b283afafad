"""The end of an evaluation: results, zip and report in one folder, the table on the screen."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from vos_jax.evaluation import archive, ledger
from vos_jax.evaluation import compare as comparing
from vos_jax.evaluation import results as results_files
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Protocol
from vos_jax.evaluation.report import drawings, pages
from vos_jax.evaluation.results import Results
from vos_jax.evaluation.scoring import SequenceResult, score_tasks


def finish(
    protocol: Protocol,
    predictions: Predictions,
    sequences: Iterable[SequenceResult],
    header: Mapping,
    out: Path,
    *,
    zipped: bool = False,
    report: bool = True,
    num_workers: int | None = None,
) -> Results:
    """Writes all that was asked for into `out` and prints the scores and where they are."""
    results = results_files.collect(protocol, sequences, header)
    results_files.write(results, out)
    if protocol.is_scored:
        print(results_files.format_scores(results))
    missing = results_files.missing_objects(results)
    if missing:
        print(f'{len(missing)} objects are in no scored mask: {", ".join(missing)}')
    if zipped:
        print(f'zip, checked: {archive.write_zip(protocol, predictions, out)}')
    if report:
        drawings.draw_all(protocol.tasks, predictions, out / 'report' / 'pictures', num_workers)
        print(f'report: {pages.write_report(results, out / "report")}')
    print(f'results: {out}')
    return results


def score_results(
    protocol: Protocol,
    predictions: Predictions,
    out: Path,
    *,
    num_workers: int | None = None,
    **options,
) -> Results:
    """Scores a folder of masks of any program; `options` are those of `finish`."""
    print(
        f'{protocol.label}: {len(protocol.tasks)} sequences of {protocol.root}, '
        f'masks {predictions.root}{protocol.note and "; "}{protocol.note}'
    )
    predictions.check(protocol)
    sequences = _score_all(protocol, predictions, out, num_workers)
    header = {'masks': str(predictions.root.resolve()), 'form': predictions.form}
    results = finish(
        protocol, predictions, sequences, header, out, num_workers=num_workers, **options
    )
    ledger.KeptScores(out, protocol, predictions).remove()
    return results


def _score_all(protocol, predictions, out, num_workers):
    """Scores all sequences; where one fails, those that are done are kept for the next time."""
    kept = ledger.KeptScores(out, protocol, predictions)
    sequences = kept.read()
    if sequences:
        print(f'{len(sequences)} of {len(protocol.tasks)} sequences are scored already')
    done = {result.name for result in sequences}
    todo = [task for task in protocol.tasks if task.name not in done]
    try:
        for result in score_tasks(todo, predictions, num_workers):
            sequences.append(result)
            line = results_files.format_sequence(result, len(sequences), len(protocol.tasks))
            print(line, flush=True)
    except Exception:
        kept.write(sequences)
        raise
    return sequences


def compare(folders: list[str], out: Path) -> None:
    """Compares finished evaluations: text on the screen, comparison.json and a page in `out`."""
    comparison = comparing.compare_folders(folders)
    print(comparing.format_comparison(comparison))
    comparing.write(comparison, out)
    sources = [Path(folder) / 'report' / 'pictures' for folder in folders]
    kinds = drawings.copy(sources, out / 'pictures')
    print(f'\npage: {pages.write_comparison(comparison, out, kinds)}')
