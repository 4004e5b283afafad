"""Damaged and hostile files: each is read, or refused in one line. 2,000 cases, `make fuzz`: more.

What has checksums is read as it was before the damage, or refused.

A case that is found becomes a named test beside the reader that it broke.
"""

import io
import json
import shutil
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
from data_prep.check import list_groups
from data_prep.prepare import find_data_set, prepare
from tests.fuzz import mutations
from tests.fuzz.conftest import CASES, SEED
from tests.video import samples
from vos_jax import weights
from vos_jax.data import frames, lists, masks, prepared, scenes
from vos_jax.errors import InputError
from vos_jax.evaluation import results
from vos_jax.inference.program.vos_loader.about import FORMAT, checksum_of, read_about
from vos_jax.storage import checksum
from vos_jax.storage.npz_files import read_npz, write_npz
from vos_jax.studio import project
from vos_jax.video.folder import Output
from vos_jax.video.reader import open_video

pytestmark = pytest.mark.slow

LABELS = np.zeros((24, 32), np.uint8)
LABELS[4:12, 4:12], LABELS[14:20, 10:30] = 1, 2
_NUM_TARGETS = 16


def fuzz(strategy, one_in=1):
    """Gives a test its share of the cases, other ones in each run unless a seed is given.

    A slow reader gets `one_in` so many of its share.
    """

    def decorate(test):
        bounded = settings(
            max_examples=max(CASES // (_NUM_TARGETS * one_in), 1),
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
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
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
    return [file.read_bytes() for name in tree.folders() for file in tree.folder(name).values()]


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
PROJECT = checksum.seal(
    {
        'format': 2,
        'video': 'a.mp4',
        'objects': [{'id': 1, 'name': 'dog', 'colour': '#ff5252'}],
        'given': {'0': [1]},
        'removed': [],
    }
)


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
    assert refused(project.read_file, folder) in (None, PROJECT)
    refused(lambda: Output(folder, PROJECT).read_summary())


def files_of(folder):
    """{name: bytes} of all files below a folder."""
    paths = (path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def laid(folder, files):
    """The folder, with these files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def assert_equal(found, wanted):
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert_equal(sorted(found.items()), sorted(wanted.items()))
    elif isinstance(wanted, list | tuple):
        for mine, its in zip(found, wanted, strict=True):
            assert_equal(mine, its)
    else:
        np.testing.assert_array_equal(found, wanted)


def read_prepared(folder):
    """All that the readers of training and of the check find in a prepared set."""
    prepared._open.cache_clear()  # its files are other ones each time
    videos = prepared.prepared(folder, 'train')
    found = [(v.name, v.size, v.stems, list(v.objects)) for v in videos]
    pixels = [(v.read_frame(0), v.read_labels(v.stems[0])) for v in videos]
    shards = list_groups(find_data_set('davis2017'), [folder], ['train'], '')[0]['train']
    checked = [v.name for shard in shards for v in shard]
    return found, pixels, checked


@pytest.fixture(scope='module')
def prepared_set(tmp_path_factory):
    root = tmp_path_factory.mktemp('prepared')
    scenes.write_dataset(root / 'data', num_train=2, num_val=1, frames=3, size=(48, 64), seed=0)
    folder, _ = prepare('davis2017', [root / 'data'], root / 'out', resolution='48p')
    files = files_of(folder)
    return {n: data for n, data in files.items() if 'val' not in n and 'json' not in n[:6]}, folder


@fuzz(st.data())
def test_prepared_sets(prepared_set, folder, data):
    files, whole = prepared_set
    harmed = data.draw(mutations.damaged_files(files))
    found = refused(read_prepared, laid(folder / 'set', harmed))
    if found is not None:
        assert_equal(found, read_prepared(whole))


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp('videos')
    images = [samples.draw(number, (48, 64)) for number in range(12)]
    kinds = {'a.mp4': 'libx264', 'a.mkv': 'libx264', 'a.avi': 'libx264', 'a.webm': 'libvpx-vp9'}
    return [samples.write_video(root / n, images, codec=codec) for n, codec in kinds.items()]


def read_video(path):
    return [frame.image for frame in open_video(path).read()]


@fuzz(st.data())
def test_videos(videos, folder, data):
    path = data.draw(st.sampled_from(videos))
    harmed = folder / path.name
    harmed.write_bytes(data.draw(mutations.damaged(path.read_bytes())))
    images = refused(read_video, harmed)
    assert images is None or all(image.shape == images[0].shape for image in images)


def kept_run():
    """The files of a run of segment that was killed."""
    with tempfile.TemporaryDirectory() as place:
        output = Output(Path(place) / 'out', PROJECT)
        output.write_mask('00000', LABELS)
        entries = {time: [np.full((2, 3), time, np.float32)] for time in (0, 1)}
        state = {'time': 1, 'slots': 1, 'previous': [LABELS], 'entries': entries}
        output.save_state(0, state)
        return files_of(output.folder)


KEPT = kept_run()


def read_kept(folder):
    output = Output(folder, PROJECT)
    kept = output.load_state()
    return kept and (*kept, output.read_mask('00000', LABELS.shape))


@fuzz(mutations.damaged_files(KEPT))
def test_kept_runs(folder, files):
    found = refused(read_kept, laid(folder / 'kept', files))
    if found is not None:
        assert_equal(found, read_kept(laid(folder / 'kept', KEPT)))


def exported_files():
    files = {'step.jax_export': MASK, 'weights.npz': NPZ[0], 'vos_loader/loader.py': b'pass'}
    values = {'size': [24, 32], 'slots': 3, 'format': FORMAT}
    values['files'] = {name: checksum.of_bytes(content) for name, content in files.items()}
    return files | {'about.json': text_of(values | {'checksum': checksum_of(values)})}


EXPORTED = exported_files()


def read_export(folder):
    try:
        return read_about(folder)
    except ValueError as error:  # the loader is alone, without InputError
        raise InputError(str(error)) from error


@fuzz(mutations.damaged_files(EXPORTED))
def test_exported_folders(folder, files):
    about = refused(read_export, laid(folder / 'exported', files))
    if about is not None:
        assert text_of(about) == EXPORTED['about.json']
        assert all(files[name] == EXPORTED[name] for name in about['files'])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    from vos_jax.training.checkpoints import Checkpoints

    run = tmp_path_factory.mktemp('run')
    with Checkpoints(run) as checkpoints:
        checkpoints.save(2, VARIABLES)
    return files_of(run)


def read_checkpoint(folder):
    from vos_jax.checkpoint_files import read_variables

    variables, record = read_variables(folder, 'latest')
    return weights.named(variables), record


@fuzz(st.data(), one_in=8)
def test_checkpoints(checkpoint, folder, data):
    files = data.draw(mutations.damaged_files(checkpoint))
    found = refused(read_checkpoint, laid(folder / 'run', files))
    if found is not None:
        assert_equal(found, read_checkpoint(laid(folder / 'run', checkpoint)))
