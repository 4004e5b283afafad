"""Small pictures for the pages: frames as JPEG, masks as transparent PNG of the same size."""

import functools
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vos_jax.data import pictures
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
            pictures['frames'] = _shrink(task.sequence.read_frame(frames[stem]))
        for kind, data in pictures.items():
            write_bytes(folder / kind / task.name / _file_name(kind, stem), data, False)


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


def find_kinds(folder: Path) -> list[str]:
    """Names the kinds of pictures that are in `folder`."""
    return [kind for kind in KINDS if (folder / kind).is_dir()]


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


def _file_name(kind, stem):
    return f'{stem}.jpg' if kind == 'frames' else f'{stem}.png'


def _frame_numbers(task):
    """{stem: number of its frame}, empty where annotations stand in for the frames."""
    if set(task.sequence.frames) <= set(task.sequence.masks.values()):
        return {}
    return {stem: number for number, stem in enumerate(task.sequence.stems)}


def _small_size(height, width):
    scale = min(1, WIDTH_PX / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shrink(frame):
    small = cv2.resize(frame, _small_size(*frame.shape[:2]), interpolation=cv2.INTER_AREA)
    return pictures.encode_jpeg(small, quality=80)


def _paint(labels, colours):
    """Encodes labels as an indexed PNG in which 0 is transparent."""
    small = cv2.resize(labels, _small_size(*labels.shape), interpolation=cv2.INTER_NEAREST)
    image = Image.fromarray(small)
    image.putpalette(_palette(colours))
    buffer = io.BytesIO()
    image.save(buffer, format='PNG', compress_level=3, transparency=0)
    return buffer.getvalue()


@functools.cache
def _palette(colours):
    """768 bytes: the colours in turn for the ids 1..255, black for 0."""
    return bytes(3) + b''.join(
        bytes.fromhex(colours[(object_id - 1) % len(colours)][1:]) for object_id in range(1, 256)
    )
