"""Exported models: the same masks as the segmenter's, without this package's model code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models import test_stm, tiny, tiny_cfbi
from tests.models.tiny import SIZE, runner
from vos_jax.config.schema import MemorySpec
from vos_jax.errors import InputError
from vos_jax.inference.program import stablehlo
from vos_jax.inference.program.vos_loader import Exported
from vos_jax.inference.segmenter import Segmenter

SCENE = tiny.clip(length=9)
FRAMES, MASKS = SCENE['frames'][0], SCENE['labels'][0, 0]
ONE = np.where(MASKS == 1, 3, 0).astype(np.uint8)
NEW = np.zeros(SIZE, np.uint8)
NEW[12:16, 2:6] = 7


def play(segmenter):
    """Probabilities of a video in which an object comes later and a frame is corrected."""
    segmenter.start(FRAMES[0], ONE)
    maps = [segmenter.step(frame, probabilities=True)[1] for frame in FRAMES[1:4]]
    segmenter.add_objects(NEW)
    maps += [segmenter.step(frame, probabilities=True)[1] for frame in FRAMES[4:6]]
    segmenter.correct(np.where(NEW > 0, NEW, np.roll(ONE, 4, axis=1)))
    return maps + [segmenter.step(frame, probabilities=True)[1] for frame in FRAMES[6:]]


@pytest.fixture(scope='module')
def original():
    return Segmenter(runner().model, runner().variables, memory=MemorySpec(size=3, capacity=4))


@pytest.fixture(scope='module')
def folder(original, tmp_path_factory):
    path = tmp_path_factory.mktemp('export') / 'model'
    stablehlo.export_step(original, path, SIZE, 3)
    return path


def test_an_exported_model_gives_the_same_masks(original, folder):
    exported = Exported(folder)
    for found, wanted in zip(play(exported), play(original), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert tuple(exported.ids) == original.ids == (3, 7)


def test_one_file_is_for_cpu_gpu_and_tpu(folder):
    from jax import export

    program = export.deserialize(bytearray((folder / 'step.jax_export').read_bytes()))
    assert program.platforms == ('cpu', 'cuda', 'tpu')
    assert json.loads((folder / 'about.json').read_text())['platforms'] == ['cpu', 'cuda', 'tpu']


def run_loader(folder, arguments, program=('-m', 'vos_loader')):
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=folder.parent,
        env={**os.environ, 'PYTHONPATH': str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )


# As on a machine that has neither this package nor flax.
_ALONE = """
import runpy, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('vos_jax', 'flax', 'absl', 'cv2', 'PIL', 'optax', 'orbax'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
sys.argv[0] = 'vos_loader'
runpy.run_module('vos_loader', run_name='__main__')
"""


@pytest.mark.slow
def test_the_loader_needs_jax_and_numpy_alone(original, folder, tmp_path):
    np.save(tmp_path / 'frames.npy', FRAMES)
    np.save(tmp_path / 'first.npy', MASKS)
    arguments = [tmp_path / name for name in ('frames.npy', 'first.npy', 'labels.npy')]
    ended = run_loader(folder, arguments, program=('-c', _ALONE))
    assert ended.returncode == 0, ended.stderr
    assert '9 frames, objects 1, 2' in ended.stdout
    np.testing.assert_array_equal(
        np.load(tmp_path / 'labels.npy'), list(original.segment(FRAMES, MASKS))
    )


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def drop_the_format(path):
    path.write_text(path.read_text().replace('"format"', '"farmat"'))


@pytest.mark.parametrize(
    ('name', 'harm', 'words'),
    [
        ('step.jax_export', flip, 'differs from its checksum in about.json; copy it again'),
        ('step.jax_export', Path.unlink, 'No such file or directory; copy it again'),
        ('weights.npz', flip, 'differs from its checksum'),
        ('vos_loader/video.py', flip, 'differs from its checksum'),
        ('about.json', flip, 'differs from its checksum; copy it again'),
        ('about.json', lambda path: path.write_text('[]'), 'not that of an export'),
        ('about.json', drop_the_format, 'not that of an export'),
        ('about.json', Path.unlink, 'not that of an export'),
    ],
)
def test_a_damaged_folder_is_refused(folder, tmp_path, name, harm, words):
    shutil.copytree(folder, tmp_path / 'model')
    harm(tmp_path / 'model' / name)
    with pytest.raises(ValueError, match=f'{re.escape(name)}: .*{words}'):
        Exported(tmp_path / 'model')


@pytest.mark.parametrize('fault', ['missing', 'no array', 'output', 'loader'])
def test_the_loader_tells_a_fault_in_one_line(folder, tmp_path, fault):
    shutil.copytree(folder, tmp_path / 'model')
    np.save(tmp_path / 'frames.npy', FRAMES)
    np.save(tmp_path / 'first.npy', MASKS)
    harmed, out = tmp_path / 'first.npy', tmp_path / 'labels.npy'
    if fault == 'missing':
        harmed.unlink()
    elif fault == 'no array':
        harmed.write_bytes(b'no array')
    elif fault == 'output':
        out = harmed / 'labels.npy'
    else:
        harmed = tmp_path / 'model/vos_loader/loader.py'
        harmed.write_text('an error of syntax')
    before = sorted(tmp_path.rglob('*.npy'))
    arguments = [tmp_path / 'frames.npy', tmp_path / 'first.npy', out]
    ended = run_loader(tmp_path / 'model', arguments)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith('error: ')
    assert str(harmed) in ended.stderr
    assert sorted(tmp_path.rglob('*.npy*')) == before


def test_what_does_not_fit_the_exported_shapes_is_refused(folder):
    exported = Exported(folder)
    with pytest.raises(ValueError, match='call start'):
        exported.step(FRAMES[0])
    exported.start(FRAMES[0], MASKS)
    with pytest.raises(ValueError, match=r'uint8\[18, 27, 3\]; this model was exported for'):
        exported.step(FRAMES[1, 1:])
    more = np.zeros(SIZE, np.uint8)
    more[0, :4] = 3, 4, 5, 6
    with pytest.raises(ValueError, match='6 objects, exported for 3; export again'):
        exported.add_objects(more)
    with pytest.raises(ValueError, match='show no object'):
        exported.start(FRAMES[0], np.zeros(SIZE, np.uint8))


def test_a_memory_too_small_is_refused(original, tmp_path):
    with pytest.raises(InputError, match='needed: a whole number from 2'):
        stablehlo.export_step(original, tmp_path / 'model', SIZE, 1, num_memory=1)
    assert not (tmp_path / 'model').exists()


@pytest.mark.long
@pytest.mark.parametrize('name', ['stm', 'cfbi'])
def test_models_that_memorise_features_or_grow_are_exported_too(name, tmp_path):
    model = {'stm': test_stm.stm, 'cfbi': tiny_cfbi.build}[name]()
    policy = {'stm': 'every_n', 'cfbi': 'given+previous'}[name]
    memory = MemorySpec(policy, size=4, every=2, capacity=8)
    original = Segmenter(model, tiny.variables_of(model), memory=memory)
    stablehlo.export_step(original, tmp_path / 'model', SIZE, 3)
    for found, wanted in zip(play(Exported(tmp_path / 'model')), play(original), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
