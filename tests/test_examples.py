"""The scripts of examples/, run as they are, give the masks of the segmenter."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from vos_jax.data.masks import read_labels, write_labels
from vos_jax.data.scenes import render_sequence

pytestmark = pytest.mark.slow  # they compile giel_lite

SIZE = (64, 96)
FRAMES, LABELS = render_sequence(np.random.default_rng(0), 4, SIZE, 2)
EXAMPLES = REPOSITORY / 'examples'

# As on a machine that has neither this package nor flax.
ALONE = """
import runpy, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('vos_jax', 'flax', 'absl', 'cv2', 'PIL'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def run(*arguments, first=()):
    ended = subprocess.run(
        [sys.executable, *first, *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope='module')
def segmenter():
    from vos_jax import Segmenter

    return Segmenter.from_pretrained('giel_lite')


@pytest.fixture(scope='module')
def wanted(segmenter):
    return np.stack(list(segmenter.segment(FRAMES, LABELS[0])))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Frames of one video, and the masks of its first frame beside it."""
    path = tmp_path_factory.mktemp('drawn') / 'video'
    path.mkdir()
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(path / f'{number:05d}.png')
    write_labels(f'{path}.png', LABELS[0])
    return path


def masks_of(path):
    return np.stack([read_labels(file) for file in sorted(path.glob('*.png'))])


def test_a_folder_of_frames(folder, wanted, tmp_path):
    run(EXAMPLES / 'segment_folder.py', folder, f'{folder}.png', tmp_path)
    np.testing.assert_array_equal(masks_of(tmp_path), wanted)


def test_several_videos(folder, wanted, tmp_path):
    run(EXAMPLES / 'segment_batch.py', tmp_path, folder, folder)
    for index in '01':  # sums of a batch are rounded in another order
        assert (masks_of(tmp_path / index) == wanted).mean() > 0.999


def test_an_exported_program_without_this_package(segmenter, wanted, tmp_path):
    from vos_jax.inference.program import stablehlo

    stablehlo.export_step(segmenter, tmp_path / 'program', SIZE, int(LABELS[0].max()))
    np.save(tmp_path / 'frames.npy', FRAMES)
    np.save(tmp_path / 'first.npy', LABELS[0])
    files = [tmp_path / name for name in ('program', 'frames.npy', 'first.npy', 'labels.npy')]
    run(EXAMPLES / 'exported.py', *files, first=('-c', ALONE))
    assert (np.load(tmp_path / 'labels.npy') == wanted).mean() > 0.999
