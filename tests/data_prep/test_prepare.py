"""Preparation: equal shards from any source, and training reads of them what it reads of files."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest

from data_prep.prepare import prepare
from vos_jax.config.read import read
from vos_jax.config.schema import DataSpec, EvaluationSpec
from vos_jax.data import layouts, pipeline, prepared
from vos_jax.data.masks import write_labels
from vos_jax.errors import InputError
from vos_jax.evaluation.heldout import HeldOut
from vos_jax.inference.runner import Lane
from vos_jax.storage.disk import FolderLock
from vos_jax.storage.paths import file_system

pytest.importorskip('tensorflow_datasets', reason='pip install -e .[prepare]')


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def davis_prepared(davis, tmp_path):
    folder, _ = prepare('davis2017', [davis], tmp_path / 'out')
    return folder


def test_frames_are_stored_as_published_and_masks_by_their_ids(davis, davis_prepared):
    for split in ('train', 'val'):
        published = layouts.davis(davis, split)
        stored = prepared.prepared(davis_prepared, split)
        assert [video.name for video in stored] == [video.name for video in published]
        for ours, theirs in zip(stored, published):
            assert (ours.stems, ours.size) == (theirs.stems, theirs.size)
            for t, stem in enumerate(ours.stems):
                data = ours.frames[t].read_bytes()
                assert data == theirs.frames[t].read_bytes()
                np.testing.assert_array_equal(ours.read_labels(stem), theirs.read_labels(stem))
    assert prepared.prepared(davis_prepared, 'train')[0].objects == (
        {'id': 1, 'category': '', 'first_frame': '00000'},
        {'id': 2, 'category': '', 'first_frame': '00000'},
    )


def test_training_from_shards_equals_training_from_files(davis, davis_prepared):
    wanted = {'batch_size': 3, 'crop': (24, 32), 'min_pixels': 5, 'rotation': 9.0}
    wanted |= {'paste': {'probability': 0.5}}
    makers = [
        pipeline.BatchMaker(read(DataSpec, wanted | {'sources': [source]}), seed=4)
        for source in ({'root': str(davis)}, {'root': str(davis_prepared.parent)})
    ]
    for step in range(4):
        ours, theirs = (maker(step) for maker in makers)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
def test_shards_in_a_bucket_equal_local_ones_and_are_trained_from(
    davis, davis_prepared, gcs, monkeypatch
):
    place, sizes, fetch = gcs(), [], file_system().cat_file

    def count(path, start, end):
        sizes.append(end - start)
        return fetch(path, start, end)

    monkeypatch.setattr(file_system(), 'cat_file', count)
    folder, _ = prepare('davis2017', [davis], place.url)
    assert str(folder) == f'{place.url}/davis2017/{davis_prepared.name}'
    assert contents(place.disk / 'davis2017' / davis_prepared.name) == contents(davis_prepared)
    assert prepare('davis2017', [davis], place.url)[0] == folder  # there already
    wanted = {'batch_size': 3, 'crop': (24, 32), 'min_pixels': 5}
    batches = [
        pipeline.BatchMaker(read(DataSpec, wanted | {'sources': [{'root': str(root)}]}), seed=4)(0)
        for root in (davis_prepared, place.url)
    ]
    for name in batches[0]:
        np.testing.assert_array_equal(batches[0][name], batches[1][name])
    shard = next((place.disk / 'davis2017' / davis_prepared.name).glob('*train*-00000-*'))
    assert 0 < max(sizes) < shard.stat().st_size / 2  # of a clip its own frames alone
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match='bytes, must be'):
        prepared.prepared(place.url, 'train')
    with pytest.raises(InputError, match='in it; prepare with vos-prepare'):
        prepared.read_index(f'{place.url}/none')


@pytest.mark.parametrize('of', ['folder', pytest.param('bucket', marks=pytest.mark.slow)])
def test_staged_shards_are_copied_once_and_read(davis, davis_prepared, tmp_path, request, of):
    root = davis_prepared
    if of == 'bucket':
        place = request.getfixturevalue('gcs')()
        root, _ = prepare('davis2017', [davis], place.url)
    settings = {'batch_size': 3, 'crop': (24, 32), 'min_pixels': 5}
    settings |= {'sources': [{'root': str(root)}]}
    stage = tmp_path / 'stage'
    staged = read(DataSpec, settings | {'stage': str(stage)})
    wanted = pipeline.BatchMaker(read(DataSpec, settings), seed=4)(0)
    found = pipeline.BatchMaker(staged, seed=4)(0)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    copies = sorted(stage.glob('davis2017-*/*train*'))
    left = copies[0].parent / '.a-shard.0123abcd.tmp'
    left.write_bytes(b'of a killed process')
    assert len(copies) == 3  # and nothing of val
    times = [path.stat().st_mtime_ns for path in copies]
    copies[0].write_bytes(copies[0].read_bytes()[:-1])
    pipeline.BatchMaker(staged, seed=4)
    assert not left.exists()
    assert copies[0].stat().st_mtime_ns > times[0]  # was cut
    assert [path.stat().st_mtime_ns for path in copies[1:]] == times[1:]
    maker = pipeline.BatchMaker(staged, seed=4)
    assert {video.frames[0].shard.parent for video in maker._sources.sequences[0]} == {
        copies[0].parent
    }


def test_sets_whose_shards_are_of_one_size_are_staged_apart(davis_prepared, tmp_path):
    other = shutil.copytree(davis_prepared, tmp_path / 'other')
    _, index = prepared.read_index(other)
    index['splits']['train']['videos'][0]['name'] += 'x'
    prepared.write_index(other, index)
    stage = str(tmp_path / 'stage')
    folders = {
        prepared.prepared(root, 'train', stage)[0].frames[0].shard.parent
        for root in (davis_prepared, other, davis_prepared)
    }
    assert len(folders) == 2


def test_a_shard_that_is_damaged_is_not_staged_and_its_copy_is_named(davis_prepared, tmp_path):
    root = shutil.copytree(davis_prepared, tmp_path / 'set')
    (shard,) = list(root.glob('**/*train*-00000-*'))
    video = prepared.prepared(root, 'train')[0]
    assert video.frames[0].shard == shard

    def flip(path):
        data = bytearray(path.read_bytes())
        data[data.index(video.frames[0].read_bytes()[:64]) + 40] ^= 1
        path.write_bytes(data)

    stage = tmp_path / 'stage'
    (copy,) = {each.frames[0].shard for each in prepared.prepared(root, 'train', str(stage))[:1]}
    flip(copy)
    with pytest.raises(InputError, match=r'damaged .* or delete it where it is in data\.stage'):
        prepared.prepared(root, 'train', str(stage))[0].frames[0].read_bytes()
    copy.unlink()
    flip(shard)
    with pytest.raises(InputError, match=f'{shard}: differs from its checksums, here'):
        prepared.prepared(root, 'train', str(stage))
    assert not copy.exists()


class Copying:
    """A segmenter that gives each frame the masks of the first."""

    def start(self, frame, masks, *, num_objects):
        self._masks = masks
        return masks

    def step(self, frame):
        return self._masks


def test_held_out_scores_are_those_of_the_published_files(davis, davis_prepared):
    settings = {'max_frames': 0, 'max_sequences': 0}
    scores = []
    for root in (davis, davis_prepared):
        sources = {'davis': {'root': str(root), 'split': 'val'}}
        evaluate = HeldOut(read(EvaluationSpec, settings | {'sources': sources}))
        scores.append(evaluate([Lane([Copying()])])[0])
    assert scores[0] == scores[1]
    assert 0 < scores[0]['jf'] < 1
    with pytest.raises(InputError, match=r"'evaluation.sources.davis.rot' is not a setting"):
        read(EvaluationSpec, {'sources': {'davis': {'rot': str(davis)}}}, 'evaluation')
    with pytest.raises(InputError, match=r"'evaluation.max_frames' is 2; needed: 3 or more"):
        read(EvaluationSpec, {'max_frames': 2}, 'evaluation')


def test_the_only_folder_of_frames_is_taken_where_there_is_no_480p(davis, tmp_path):
    for kind in ('JPEGImages', 'Annotations'):
        (davis / kind / '480p').rename(davis / kind / '240p')
    _, index = prepare('davis2017', [davis], tmp_path / 'out')
    assert [len(part['videos']) for part in index['splits'].values()] == [3, 1]
    (davis / 'JPEGImages' / '120p' / 'a').mkdir(parents=True)
    (davis / 'JPEGImages' / '120p' / 'a' / '00000.jpg').write_bytes(b'')
    with pytest.raises(InputError, match='JPEGImages has 120p, 240p; needed: 480p or one folder'):
        prepare('davis2017', [davis], tmp_path / 'other')


def test_training_from_shards_loads_no_preparation_package(davis_prepared, run_python):
    code = (
        'import sys\n'
        'from vos_jax.data import pipeline\n'
        'from vos_jax.config.read import read\n'
        'from vos_jax.config.schema import DataSpec\n'
        'data = dict(sources=[dict(root=sys.argv[1], kind="prepared")], batch_size=1, '
        'crop=(24, 32), min_pixels=5)\n'
        'pipeline.BatchMaker(read(DataSpec, data), 0)(0)\n'
        'names = {"tensorflow", "tensorflow_datasets", "array_record", "jax"}\n'
        'print(sorted(names & set(sys.modules)))\n'
    )
    result = run_python(code, davis_prepared)
    assert result.stdout == '[]\n', result.stderr


def test_tfds_reads_what_was_prepared(youtube_vos, tmp_path):
    tfds = pytest.importorskip('tensorflow_datasets')
    folder, _ = prepare('youtube_vos2019', [youtube_vos], tmp_path / 'out')
    builder = tfds.builder_from_directory(folder)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        'train': 1,
        'valid': 1,
    }
    (example,) = builder.as_data_source(split='valid')
    assert example['name'] == b'v'
    assert list(example['frame_names']) == [b'00000', b'00005', b'00010', b'00015']
    assert list(example['mask_frames']) == [b'00000', b'00010']
    assert [np.unique(mask).tolist() for mask in example['masks']] == [[0, 1], [0, 5]]
    assert list(example['objects']['id']) == [1, 5]
    assert list(example['objects']['category']) == [b'dog', b'cat']
    assert list(example['objects']['first_frame']) == [b'00000', b'00010']
    for ours, theirs in zip(
        example['frames'], sorted((youtube_vos / 'valid/JPEGImages/v').iterdir())
    ):
        frame = layouts.frame_files.read_frame(theirs)
        # TFDS decodes with Pillow, whose upsampling of colours may round another way.
        np.testing.assert_allclose(ours, frame, atol=2)


def test_records_are_those_that_tfds_would_write(davis, davis_prepared):
    tfds = pytest.importorskip('tensorflow_datasets')
    from data_prep.builders.tfds_builders import Davis2017
    from data_prep.shards import decode_example

    builder = Davis2017(data_dir=davis_prepared.parent.parent)
    features = builder.info.features
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    examples = builder._generate_examples(_videos_of(davis))
    for (name, example), video in zip(examples, prepared.prepared(davis_prepared, 'train')):
        theirs = decode_example(serializer.serialize_example(features.encode_example(example)))
        ours = decode_example(_record(video))
        assert name == video.name
        assert {k: list(map(_plain, v)) for k, v in ours.items()} == {
            k: list(map(_plain, v)) for k, v in theirs.items()
        }


def _plain(value):
    return value if isinstance(value, int) else bytes(value)


def _videos_of(root):
    from data_prep.builders import DATA_SETS
    from data_prep.builders.files import FileTree

    return DATA_SETS['davis2017'].list_split(FileTree([root]), 'train', {})[0]


def _record(video):
    from array_record.python import array_record_module

    return array_record_module.ArrayRecordReader(str(video.frames[0].shard)).read([0])[0]


@pytest.mark.parametrize('form', ['zip', 'folder of a zip', 'tar', 'tgz'])
def test_archives_give_the_same_shards_as_folders(davis, davis_prepared, tmp_path, form):
    (tmp_path / 'in').mkdir()
    path = tmp_path / 'in' / f'davis.{form[-3:]}'
    if form.endswith('zip'):
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(davis.rglob('*.*')):
                archive.write(file, f'DAVIS/{file.relative_to(davis)}')
            archive.writestr('__MACOSX/DAVIS/._x.jpg', 'no image')
    else:
        with tarfile.open(path, 'w:gz' if form == 'tgz' else 'w') as archive:
            archive.add(davis, 'DAVIS')
    source = path.parent if form.startswith('folder') else path
    folder, _ = prepare('davis2017', [source], tmp_path / 'again')
    assert contents(folder) == contents(davis_prepared)


def test_davis_2016_has_one_object(davis, tmp_path):
    folder, _ = prepare('davis2016', [davis], tmp_path / 'out')
    two = prepared.prepared(folder, 'train')[0]
    assert np.unique(two.read_labels('00000')).tolist() == [0, 1]
    assert [item['id'] for item in two.objects] == [1]


def test_davis_2016_of_its_first_release(davis, tmp_path):
    for path in davis.glob('Annotations/480p/*/*.png'):
        labels = layouts.mask_files.read_labels(path)
        write_labels(path, ((labels > 0) * 255).astype(np.uint8))
    rows = [f'/JPEGImages/480p/{n}/00000.jpg /Annotations/480p/{n}/00000.png' for n in 'ab']
    (davis / 'ImageSets/2016/train.txt').write_text('\n'.join(rows))
    folder, _ = prepare('davis2016', [davis], tmp_path / 'out', splits=['train'])
    assert [video.name for video in prepared.prepared(folder, 'train')] == ['a', 'b']
    assert prepared.prepared(folder, 'train')[0].read_labels('00001').max() == 1


def test_prepared_twice_is_prepared_once(davis, davis_prepared, tmp_path, capsys):
    before = contents(davis_prepared)
    prepare('davis2017', [davis], tmp_path / 'out')
    assert 'prepared already' in capsys.readouterr().out
    assert contents(davis_prepared) == before
    with pytest.raises(InputError, match=r'prepared already, with .*resolution.*another --out'):
        prepare('davis2017', [davis], tmp_path / 'out', resolution='Full-Resolution')


def test_a_run_resumes_after_an_error(davis, davis_prepared, tmp_path):
    frame = davis / 'JPEGImages/480p/c/00001.jpg'
    whole = frame.read_bytes()
    frame.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(InputError, match=r'c/00001\.jpg: unreadable JPEG'):
        prepare('davis2017', [davis], tmp_path / 'again')
    work = tmp_path / 'again/davis2017/1.0.0.incomplete'
    done = {p.name: p.stat().st_mtime_ns for p in work.glob('*train*-of-00003')}
    assert len(done) == 2
    assert not list(work.glob('.*part'))
    with pytest.raises(InputError, match=r'incomplete: run vos-prepare again'):
        prepared.prepared(tmp_path / 'again', 'train')
    frame.write_bytes(whole)
    folder, _ = prepare('davis2017', [davis], tmp_path / 'again')
    assert contents(folder) == contents(davis_prepared)
    assert all((folder / name).stat().st_mtime_ns == t for name, t in done.items())


def test_a_run_does_not_resume_with_other_files(davis, tmp_path):
    frame = davis / 'JPEGImages/480p/c/00001.jpg'
    whole = frame.read_bytes()
    frame.write_bytes(b'')
    with pytest.raises(InputError, match=r'c/00001\.jpg'):
        prepare('davis2017', [davis], tmp_path / 'out')
    frame.write_bytes(whole)
    (davis / 'JPEGImages/480p/a/00002.jpg').unlink()
    (davis / 'Annotations/480p/a/00002.png').unlink()
    with pytest.raises(InputError, match=r'incomplete: begun from other files'):
        prepare('davis2017', [davis], tmp_path / 'out')


def test_a_folder_in_which_another_run_writes_is_refused(davis, tmp_path):
    work = tmp_path / 'out/davis2017/1.0.0.incomplete'
    work.mkdir(parents=True)
    with contextlib.closing(FolderLock(work, 'wait')):
        with pytest.raises(InputError, match='in use by another process; wait for the end'):
            prepare('davis2017', [davis], tmp_path / 'out')
        assert not list(work.iterdir())
    prepare('davis2017', [davis], tmp_path / 'out')
    assert not work.exists()


COMMAND = [sys.executable, '-m', 'vos_jax.commands.prepare', 'davis2017']


@pytest.mark.slow
def test_a_killed_run_resumes_with_any_number_of_processes(davis, davis_prepared, tmp_path):
    command = [*COMMAND, f'--source={davis}', f'--out={tmp_path / "again"}']
    work = tmp_path / 'again/davis2017/1.0.0.incomplete'
    process = subprocess.Popen([*command, '--workers=2'], stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(work.glob('*-of-*.json')):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (work / '.a-shard.0123abcd.tmp').write_bytes(b'cut off')
    result = subprocess.run([*command, '--workers=1'], capture_output=True, text=True, check=True)
    folder = tmp_path / 'again/davis2017/1.0.0'
    assert f'data set in {folder}' in result.stdout
    assert contents(folder) == contents(davis_prepared)


@pytest.mark.slow
def test_processes_and_beam_write_the_same_shards(davis, davis_prepared, tmp_path):
    """Beam has an environment of its own; BEAM_PYTHON names its Python."""
    python = os.environ.get('BEAM_PYTHON', sys.executable)
    probe = subprocess.run([python, '-c', 'import apache_beam, tensorflow_datasets'])
    if probe.returncode:
        pytest.skip('no Apache Beam: BEAM_PYTHON may name a Python with requirements-beam.txt')
    command = [python, *COMMAND[1:], f'--source={davis}', f'--out={tmp_path / "beam"}', '--beam']
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / 'beam/davis2017/1.0.0') == contents(davis_prepared)


def test_a_wrong_command_ends_in_one_line(tmp_path):
    command = [*COMMAND, '--source=/nowhere', f'--out={tmp_path / "out"}']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == 'error: /nowhere: no such folder or archive; give the data set\n'
    assert not (tmp_path / 'out').exists()


def test_wrong_wishes_are_named(davis, youtube_vos, tmp_path):
    for name, source, splits, message in (
        ('lvos', davis, (), "no data set 'lvos'; one of davis2016, davis2017"),
        ('davis2017', davis, ['valid'], "no split 'valid'; one of train, val, test_dev"),
        ('davis2017', davis, ['test_dev'], 'no split test_dev in '),
        ('davis2017', youtube_vos, (), 'no folder ImageSets/2017 in it'),
        ('youtube_vos2018', davis, (), r'no meta\.json in it'),
        ('static_images', davis / 'ImageSets', (), 'neither COCO'),
    ):
        with pytest.raises(InputError, match=message):
            prepare(name, [source], tmp_path / 'out', splits=splits)
    assert not (tmp_path / 'out').exists()


def test_a_cut_shard_is_named(davis_prepared):
    shard = prepared.prepared(davis_prepared, 'train')[1].frames[0].shard
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(InputError, match=rf'{shard.name}: \d+ bytes, must be \d+: the shard was'):
        prepared.prepared(davis_prepared, 'train')
    shard.unlink()
    with pytest.raises(InputError, match=rf'{shard.name}: this shard is missing'):
        prepared.prepared(davis_prepared, 'train')


def test_a_damaged_frame_of_a_shard_is_named(davis_prepared):
    video = prepared.prepared(davis_prepared, 'train')[0]
    shard = video.frames[0].shard
    first = video.frames[0].read_bytes()
    content = bytearray(shard.read_bytes())
    content[content.index(first) + len(first) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=rf'{shard.name}: damaged between bytes'):
        video.read_frame(0)
    video.read_frame(1)
    offset, num_bytes, _ = video.frames[0].place
    prepared.read_part(shard, offset, num_bytes)  # as of a set without checksums


def test_each_change_of_the_index_is_refused(davis_prepared):
    path = davis_prepared / 'videos.json'
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r'videos\.'):
            prepared.read_index(davis_prepared)


def test_wrong_folders_of_prepared_sets_are_named(davis, davis_prepared, tmp_path):
    with pytest.raises(InputError, match=r"no split 'test'.* splits there: train, val"):
        prepared.prepared(davis_prepared, 'test')
    with pytest.raises(InputError, match=r'DAVIS: no videos\.json in it; prepare with'):
        prepared.prepared(davis, 'train')
    prepare('davis2016', [davis], tmp_path / 'out')
    with pytest.raises(InputError, match='several data sets in it; give one, such as'):
        prepared.prepared(tmp_path / 'out', 'train')
    assert len(prepared.prepared(tmp_path / 'out/davis2017', 'train')) == 3
    (davis_prepared / 'videos.json').write_text('{"format": 1')
    with pytest.raises(InputError, match=r'videos\.json: differs from its checksum'):
        prepared.prepared(davis_prepared, 'train')
    (davis_prepared / 'videos.crc32').unlink()
    with pytest.raises(InputError, match=r'videos\.json: not a whole JSON file'):
        prepared.prepared(davis_prepared, 'train')


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('shard', '/etc/passwd', 'does not fit its shard'),
        ('shard', None, "'splits.train.videos.0.shard' is None, needed: str"),
        ('name', '../a', 'no name of a file'),
        ('height', 0, 'does not fit'),
        ('height', '32', 'needed: int'),
        ('frames', [], 'does not fit'),
        ('frame_parts', [[-1, 5]] * 3, 'does not fit'),
        ('frame_parts', [[0, 10**12]] * 3, 'does not fit'),
        ('mask_parts', [[0]], 'does not fit'),
        ('objects', [{'id': 1}], "'splits.train.videos.0.objects.0.category' is missing"),
    ],
)
def test_an_index_that_is_wrong_is_one_line(davis_prepared, key, value, words):
    _, index = prepared.read_index(davis_prepared)
    index['splits']['train']['videos'][0][key] = value
    prepared.write_index(davis_prepared, index)
    with pytest.raises(InputError, match=rf'videos\.json: .*{words}'):
        prepared.prepared(davis_prepared, 'train')
