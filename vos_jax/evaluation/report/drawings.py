"""Small pictures for the pages: frames as JPEG, masks as transparent PNG of the same size."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vos_jax.data.masks import encode_labels
from vos_jax.data.pictures import encode_jpeg
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Task
from vos_jax.evaluation.scoring import choose_workers, make_workers
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.names import natural_key
from vos_jax.storage.palette import COLOURS

WIDTH_PX = 480
MISSED, FALSE_ALARM, CONFUSED = 1, 2, 3
ERROR_COLOURS = {MISSED: '#ffd000', FALSE_ALARM: '#ff2020', CONFUSED: '#00c8ff'}
KINDS = ('frames', 'truth', 'prediction', 'errors')


def draw(task: Task, predictions: Predictions, folder: Path) -> None:
    """Writes the pictures of one sequence: `<folder>/<kind>/<sequence>/<frame>`."""
    frames = _frame_numbers(task)
    for stem in task.scored or task.sequence.required:
        pred = predictions.read(task, stem)
        pictures = {'prediction': _paint(pred, COLOURS)}
        if task.scored:
            truth = task.read_truth(stem)
            pictures['truth'] = _paint(truth, COLOURS)
            pictures['errors'] = _paint(mark_errors(pred, truth), tuple(ERROR_COLOURS.values()))
        if stem in frames:
            frame = _small(task.sequence.read_frame(frames[stem]), cv2.INTER_AREA)
            pictures['frames'] = encode_jpeg(frame, quality=80)
        for kind, data in pictures.items():
            name = f'{stem}.jpg' if kind == 'frames' else f'{stem}.png'
            write_bytes(folder / kind / task.name / name, data, False)


def draw_all(
    tasks: Sequence[Task], predictions: Predictions, folder: Path, num_workers: int | None = None
) -> None:
    """Writes the pictures of all sequences in worker processes."""
    num_workers = choose_workers(tasks, num_workers)
    if num_workers == 1:
        for task in tasks:
            draw(task, predictions, folder)
        return
    with make_workers(num_workers) as workers:
        futures = [workers.submit(draw, task, predictions, folder) for task in tasks]
        for future in futures:
            future.result()


def mark_errors(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Marks wrong pixels, u8[H, W]: 1 object missed, 2 false alarm, 3 another object."""
    errors = np.zeros_like(truth)
    errors[(truth > 0) & (pred == 0)] = MISSED
    errors[(truth == 0) & (pred > 0)] = FALSE_ALARM
    errors[(truth > 0) & (pred > 0) & (truth != pred)] = CONFUSED
    return errors


def list_frames(folder: Path) -> list[str]:
    """Names the frames of one sequence and kind, in time order; empty without pictures."""
    if not folder.is_dir():
        return []
    return sorted((path.stem for path in folder.glob('*.png')), key=natural_key)


def copy(sources: Sequence[Path], folder: Path) -> list[str]:
    """Copies the pictures of several runs: frames and truth once, 'run0', 'run1', ... of each.

    Returns:
      The kinds now in `folder`, empty if a run has no pictures.
    """
    if not all((source / 'prediction').is_dir() for source in sources):
        return []
    kinds = [kind for kind in ('frames', 'truth') if (sources[0] / kind).is_dir()]
    pairs = [(sources[0] / kind, kind) for kind in kinds]
    pairs += [(source / 'prediction', f'run{index}') for index, source in enumerate(sources)]
    for source, kind in pairs:
        shutil.copytree(source, folder / kind, dirs_exist_ok=True)
    return [kind for _, kind in pairs]


def _frame_numbers(task):
    """{stem: number of its frame}, empty where annotations stand in for the frames."""
    if set(task.sequence.frames) <= set(task.sequence.masks.values()):
        return {}
    return {stem: number for number, stem in enumerate(task.sequence.stems)}


def _small(image, interpolation):
    height, width = image.shape[:2]
    scale = min(1, WIDTH_PX / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=interpolation)


def _paint(labels, colours):
    """Encodes labels as a PNG in which 0 is transparent and the ids have the colours in turn."""
    rgb = np.array([list(bytes.fromhex(colour[1:])) for colour in colours], np.uint8)
    palette = np.concatenate([np.zeros((1, 3), np.uint8), np.resize(rgb, (255, 3))])
    return encode_labels(_small(labels, cv2.INTER_NEAREST), palette, transparency=0)
