"""Damaged and hostile files: each is read, or refused in one line. 2,000 cases, `make fuzz`: more.

A case that is found becomes a named test beside the reader that it broke.
"""

import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import torch_reader, torch_writer
from data_prep.builders.files import FileTree
from tests.fuzz import mutations
from tests.fuzz.conftest import CASES, SEED
from vos_jax import weights
from vos_jax.data import frames, lists, masks
from vos_jax.data.shards import prepared
from vos_jax.errors import InputError
from vos_jax.evaluation import results
from vos_jax.storage.npz_files import read_npz, write_npz
from vos_jax.studio import project
from vos_jax.video.folder import Output

pytestmark = pytest.mark.slow

LABELS = np.zeros((24, 32), np.uint8)
LABELS[4:12, 4:12], LABELS[14:20, 10:30] = 1, 2
_NUM_TARGETS = 12


def fuzz(strategy):
    """Gives a test its share of the cases, other ones in each run unless a seed is given."""

    def decorate(test):
        bounded = settings(
            max_examples=max(CASES // _NUM_TARGETS, 1),
            derandomize=False,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        return seed(SEED)(bounded(given(strategy)(test)))

    return decorate


def refused(read, *arguments):
    """What a reader gives, or None where it refuses in one line. Anything else fails the test."""
    try:
        return read(*arguments)
    except InputError:
        return None


def png(labels, **options):
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, 'PNG', **options)
    return buffer.getvalue()


MASK, FRAME = png(LABELS), png(np.dstack([LABELS * 90] * 3))


@fuzz(mutations.damaged(MASK) | mutations.damaged_png(MASK))
def test_masks(data):
    labels = refused(masks.decode_labels, data, 'a.png')
    assert labels is None or (labels.dtype == np.uint8 and labels.ndim == 2 and labels.size)


@fuzz(mutations.damaged(FRAME) | mutations.damaged_png(FRAME))
def test_frames_in_png(data):
    image = refused(frames.decode_frame, data, 'a.png')
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.size)
    refused(frames.decode_size, data, 'a.png')


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([LABELS * 90] * 3)).save(buffer, 'JPEG')
    return buffer.getvalue()


@fuzz(mutations.damaged(jpeg()))
def test_frames_in_jpeg(data):
    image = refused(frames.decode_frame, data, 'a.jpg')
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.size)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz')


def written(write):
    """The bytes that a function writes to a file."""
    with tempfile.TemporaryDirectory() as place:
        write(Path(place) / 'file')
        return (Path(place) / 'file').read_bytes()


ARRAYS = {
    'params/a/kernel': np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    'params/b': np.float32(2),
    'batch_stats/mean': np.zeros(5, np.float32),
}
NPZ = [written(lambda path, c=c: write_npz(path, ARRAYS, compressed=c)) for c in (False, True)]


def any_zip(data):
    return mutations.damaged(data) | mutations.damaged_zip(data)


@fuzz(st.sampled_from(NPZ).flatmap(any_zip))
def test_arrays(folder, data):
    (folder / 'a.npz').write_bytes(data)
    arrays = refused(read_npz, folder / 'a.npz')
    assert arrays is None or sum(array.nbytes for array in arrays.values()) < 2**31


VARIABLES = {'params': {'a': ARRAYS['params/a/kernel']}}
WEIGHTS = written(lambda path: weights.export_weights(path, VARIABLES, {'m': 1}))


@fuzz(any_zip(WEIGHTS))
def test_weights(folder, data):
    (folder / 'w.npz').write_bytes(data)
    loaded = refused(weights.load_weights, folder / 'w.npz')
    if loaded is not None:
        arrays = weights.named(loaded.variables).values()
        assert all(np.isfinite(array).all() for array in arrays)


PTH = written(lambda path: torch_writer.write(path, ARRAYS))


@fuzz(any_zip(PTH))
def test_pytorch_checkpoints(folder, data):
    (folder / 'w.pth').write_bytes(data)
    arrays = refused(torch_reader.read, folder / 'w.pth')
    assert arrays is None or all(isinstance(array, np.ndarray) for array in arrays.values())


FILES = {f'set/{number}.txt': b'%d' % number * 300 for number in range(5)}


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def read_all(path):
    tree = FileTree([path])
    return [file.read() for name in tree.folders() for file in tree.folder(name).values()]


@fuzz(mutations.damaged(tarred()) | mutations.damaged_tar(tarred()))
def test_tar_archives(tmp_path_factory, data):
    path = tmp_path_factory.mktemp('tar') / 'a.tar'
    path.write_bytes(data)
    refused(read_all, path)


@fuzz(any_zip(zipped()))
def test_zip_archives(tmp_path_factory, data):
    path = tmp_path_factory.mktemp('zip') / 'a.zip'  # another name each time: they are kept open
    path.write_bytes(data)
    refused(read_all, path)


RESULTS = {
    'protocol': 'davis2017',
    'split': 'val',
    'mode': 'semi-supervised',
    'groups': None,
    'sequences': [
        {
            'name': 'dog',
            'ids': [1, 2],
            'stems': ['00001'],
            'J': [[0.5], [None]],
            'F': [[0.5], [1]],
            'area': [[9], [4]],
            'missing': [],
        }
    ],
}
INDEX = {
    'format': 1,
    'name': 'davis2017',
    'options': {},
    'splits': {
        'train': {
            'shards': [{'file': 'a-00000', 'bytes': 100}],
            'videos': [
                {
                    'name': 'dog',
                    'shard': 'a-00000',
                    'height': 24,
                    'width': 32,
                    'frames': ['0', '1'],
                    'masks': ['0'],
                    'frame_parts': [[0, 9], [9, 9]],
                    'mask_parts': [[18, 9]],
                    'objects': [{'id': 1, 'category': '', 'first_frame': '0'}],
                }
            ],
        }
    },
}
META = {'videos': {'a': {'objects': {'1': {'category': 'dog', 'frames': ['00000', '00005']}}}}}
PROJECT = {
    'format': 1,
    'video': 'a.mp4',
    'objects': [{'id': 1, 'name': 'dog', 'colour': '#ff5252'}],
    'given': {'0': [1]},
}


def text_of(values):
    return json.dumps(values).encode()


def any_json(values):
    whole = mutations.damaged_values(values).map(text_of)
    return whole | mutations.damaged(text_of(values))


@fuzz(any_json(RESULTS))
def test_results(folder, data):
    (folder / 'results.json').write_bytes(data)
    refused(results.read, folder)


@fuzz(any_json(INDEX))
def test_indices_of_prepared_sets(folder, data):
    (folder / 'shards').mkdir(exist_ok=True)
    (folder / 'shards/videos.json').write_bytes(data)
    (folder / 'shards/a-00000').write_bytes(bytes(100))
    found = refused(prepared.prepared, folder / 'shards', 'train')
    for sequence in found or ():
        refused(sequence.read_frame, 0)


@fuzz(any_json(META))
def test_lists_of_objects(data):
    refused(lists.parse_meta, data, 'meta.json')


@fuzz(any_json(PROJECT))
def test_files_of_our_folders(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('ours')
    for name in ('project.json', 'run.json', 'summary.json'):
        (folder / name).write_bytes(data)
    refused(project.read_file, folder)
    refused(lambda: Output(folder, PROJECT).read_summary())
