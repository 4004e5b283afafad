"""Miniature data sets, drawn: squares that move over noise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import squares
from tests.squares import Square
from vos_jax.data import frames, masks, scenes

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = (48, 64)


def draw_labels(num_frames, ids=(1,), speed=2):
    """num_frames times u8[48, 64]: squares of 10 pixels, one below the other, that move right."""
    rows = [Square(label, 3 + 15 * row, 4, 10, 10, right=speed) for row, label in enumerate(ids)]
    return squares.draw_labels(rows, num_frames, SIZE)


def write_masks(folder, labels, first=0, step=1):
    """Writes u8[T, H, W] as 00000.png, ...; returns the names of the frames."""
    stems = [f'{first + step * t:05d}' for t in range(len(labels))]
    for stem, one in zip(stems, labels):
        masks.write_labels(Path(folder) / f'{stem}.png', one)
    return stems


def write_frames(folder, stems, seed=0):
    rng = np.random.default_rng(seed)
    for stem in stems:
        frames.write_frame(Path(folder) / f'{stem}.jpg', rng.integers(0, 256, (*SIZE, 3), np.uint8))


@pytest.fixture
def make_davis(tmp_path):
    """Returns a function: {name: u8[T, H, W]} -> root of a data set in the DAVIS layout."""

    def make(sequences, with_frames=True, split='val', root=tmp_path / 'DAVIS'):
        scenes.write_lists(root, {split: sequences})
        for name, labels in sequences.items():
            stems = write_masks(root / 'Annotations/480p' / name, labels)
            if with_frames:
                write_frames(root / 'JPEGImages/480p' / name, stems)
        return root

    return make


@pytest.fixture
def make_youtube(tmp_path):
    """Returns a function: {video: (u8[T, H, W], {id: index of its first frame})} -> root.

    Frames are every fifth; `given_only` leaves only masks in which an object appears, with the
    new objects alone, as the valid split has them.
    """

    def make(videos, split='valid', given_only=True, categories=None, root=tmp_path / 'YTVOS'):
        meta = {}
        for name, (labels, first) in videos.items():
            stems = [f'{5 * t:05d}' for t in range(len(labels))]
            write_frames(root / split / 'JPEGImages' / name, stems)
            meta[name] = {'objects': {str(i): {'frames': stems[t:]} for i, t in first.items()}}
            for t, stem in enumerate(stems):
                new = [i for i, start in first.items() if start == t]
                if given_only and not new:
                    continue
                shown = np.where(np.isin(labels[t], new), labels[t], 0) if given_only else labels[t]
                masks.write_labels(
                    root / split / 'Annotations' / name / f'{stem}.png', shown.astype(np.uint8)
                )
            for object_id, category in (categories or {}).get(name, {}).items():
                meta[name]['objects'][str(object_id)]['category'] = category
        (root / split / 'meta.json').write_text(json.dumps({'videos': meta}))
        return root

    return make


@pytest.fixture
def draw():
    """The function `draw_labels`."""
    return draw_labels


@pytest.fixture
def save_masks():
    """The function `write_masks`."""
    return write_masks


@pytest.fixture
def evaluate(forks):
    """Returns a function that runs evaluate.py in a process: (*flags) -> CompletedProcess.

    With another environment it is a new process, else a fork.
    """

    def run(*flags, timeout_s=600, **environment):
        command = [sys.executable, str(REPOSITORY / 'evaluate.py'), *map(str, flags)]
        if not environment:
            return forks.run(command)
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
        )

    return run


# A GIEL of the smallest widths: compiled in seconds, and its masks need not be good.
_TINY = (
    'model.encoder.stem_width=8',
    'model.encoder.depths=(1, 1, 1)',
    'model.encoder.widths=(8, 8, 8)',
    'model.key_channels=8',
    'model.value_channels=8',
    'model.decoder_channels=8',
    'model.variant=fast',
)


@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory):
    """Path of a weights file of a tiny GIEL with random weights."""
    import jax

    from vos_jax import recipe, weights
    from vos_jax.models import registry

    settings = recipe.load('configs/giel_small.py:tiny', _TINY)
    model = registry.build(settings.model)
    arguments = (
        np.zeros((1, 64, 64, 3), np.uint8),
        np.zeros((1, 1, 64, 64), np.float32),
        np.ones((1, 1), bool),
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments)
    rng = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(lambda p, s: _random(rng, p, s), shapes)
    path = tmp_path_factory.mktemp('weights') / 'tiny.npz'
    weights.export_weights(path, variables, settings)
    return path


def _random(rng, path, leaf):
    """He-scaled kernels, ones for scales and variances, zeros for the rest."""
    name = str(path[-1])
    if 'kernel' in name:
        fan_in = np.prod(leaf.shape[:-1])
        return (rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)).astype(leaf.dtype)
    return np.full(leaf.shape, float('scale' in name or 'var' in name), leaf.dtype)
