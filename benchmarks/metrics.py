"""Times the scorer: python -m benchmarks.metrics [--workers=2] [--plain].

Draws 20 sequences, 1,376 frames of 854x480 (the counts of DAVIS-2016 val), one object each,
annotations against predictions that are shifted and grown, and scores the PNG files from disk as
`evaluate.py --results` does. The time starts before the worker processes do. `--plain` also
scores with nothing clever, on whole frames in this process, and compares every value.
"""

import json
import os
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import app, flags

from vos_jax.data import masks
from vos_jax.evaluation import predictions, protocols, scoring
from vos_jax.evaluation.metrics import summarise, tolerance_px

WORKERS = flags.DEFINE_integer('workers', os.cpu_count(), 'worker processes')
PLAIN = flags.DEFINE_bool('plain', False, 'also score whole frames plainly, and compare')
JSON = flags.DEFINE_string('json', None, 'file for the figures')
SIZE = (480, 854)
LENGTHS = [69] * 16 + [68] * 4  # 1,376 frames


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        print(f'drawing {sum(LENGTHS)} frames of {SIZE[1]}x{SIZE[0]} in {len(LENGTHS)} sequences')
        draw_data_set(folder)
        figures = measure(folder)
    print(json.dumps(figures, indent=1))
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(figures, indent=1) + '\n')


def measure(folder):
    """Scores the drawn data set and gives times and scores."""
    start, start_cpu = time.perf_counter(), cpu_seconds()
    protocol = protocols.load('davis2016', folder, need_frames=False)
    results = predictions.open_results(folder / 'predictions')
    results.check(protocol)
    scores = {r.name: r.scores for r in scoring.score_tasks(protocol.tasks, results, WORKERS.value)}
    elapsed_s, cpu_s = time.perf_counter() - start, cpu_seconds() - start_cpu
    summary = summarise(scores)
    figures = {
        'workers': WORKERS.value,
        'scored_frames': sum(len(task.scored) for task in protocol.tasks),
        'seconds': round(elapsed_s, 2),
        'cpu_seconds': round(cpu_s, 2),
        'J': round(summary.J.mean, 6),
        'F': round(summary.F.mean, 6),
    }
    if PLAIN.value:
        figures |= compare_with_plain(protocol, results, scores)
    return figures


def cpu_seconds():
    """CPU time of this process and its ended workers; unlike wall time free of other load."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def compare_with_plain(protocol, results, scores):
    """Scores again on whole frames, one process; gives its time and the largest difference."""
    start, largest = time.perf_counter(), 0.0
    for task in protocol.tasks:
        pairs = [(results.read(task, stem) > 0, task.read_truth(stem) > 0) for stem in task.scored]
        plain = np.array([(plain_jaccard(*pair), plain_f(*pair)) for pair in pairs])
        own = np.stack([scores[task.name].J[0], scores[task.name].F[0]], axis=1)
        largest = max(largest, float(np.abs(plain - own).max()))
    return {
        'plain_seconds_one_process': round(time.perf_counter() - start, 2),
        'largest_difference': largest,
    }


def plain_jaccard(pred, truth):
    return (pred & truth).sum() / (pred | truth).sum() if (pred | truth).any() else 1.0


def plain_f(pred, truth):
    """F on whole frames with one dilation by the disk for each mask."""
    radius = tolerance_px(truth.shape)
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (y**2 + x**2 <= radius**2).astype(np.uint8)
    edges = [plain_boundary(mask) for mask in (pred, truth)]
    near = [cv2.dilate(e.astype(np.uint8), disk, borderValue=0).astype(bool) for e in edges]
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    precision = (edges[0] & near[1]).sum() / edges[0].sum()
    recall = (edges[1] & near[0]).sum() / edges[1].sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def plain_boundary(mask):
    """Repeats the last row and column, so that a missing neighbour is never different."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
    right, below, corner = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (mask != right) | (mask != below) | (mask != corner)


def draw_data_set(folder):
    """Writes annotations, predictions and the list in the DAVIS layout."""
    names = [f'drawn-{index:02d}' for index in range(len(LENGTHS))]
    for index, (name, length) in enumerate(zip(names, LENGTHS)):
        rng = np.random.default_rng(index)
        for frame, (truth, pred) in enumerate(draw_sequence(rng, length)):
            masks.write_labels(folder / f'Annotations/480p/{name}/{frame:05d}.png', truth)
            masks.write_labels(folder / f'predictions/{name}/{frame:05d}.png', pred)
    (folder / 'ImageSets/2016').mkdir(parents=True)
    (folder / 'ImageSets/2016/val.txt').write_text('\n'.join(names) + '\n')


def draw_sequence(rng, length):
    """Yields (truth, prediction) u8[H, W] of a wobbling outline that wanders over the frame."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    waves, phases = rng.normal(0, 0.12, 8), rng.uniform(0, 2 * np.pi, 8)
    radius, centre = rng.uniform(60, 140), rng.uniform((300, 200), (550, 280))
    kernel = np.ones((5, 5), np.uint8)
    for frame in range(length):
        bumps = sum(
            w * np.sin((k + 2) * angles + p + 0.1 * frame)
            for k, (w, p) in enumerate(zip(waves, phases))
        )
        outline = radius * (1 + bumps)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        wander = 60 * np.array([np.sin(frame / 15), np.cos(frame / 20)])
        truth = np.zeros(SIZE, np.uint8)
        cv2.fillPoly(truth, [np.int32(outline + centre + wander)], 1)
        yield truth, np.roll(cv2.dilate(truth, kernel), (frame % 7, frame % 11), axis=(0, 1))


if __name__ == '__main__':
    app.run(main)
