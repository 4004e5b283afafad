"""Segmenting a video by command, in processes of their own, and by function."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.video import samples
from vos_jax import recipe
from vos_jax.data import frames, masks
from vos_jax.inference.segmenter import Segmenter
from vos_jax.training.checkpoints import Checkpoints
from vos_jax.video import propagate, scaling
from vos_jax.video.folder import Output
from vos_jax.video.given import find_masks
from vos_jax.video.reader import Range, open_video
from vos_jax.weights import load_weights

NUM_FRAMES = 30


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    return samples.write_weights(tmp_path_factory.mktemp('weights') / 'tiny.npz')


@pytest.fixture(scope='session')
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clip')
    samples.write_mask(folder / 'first.png')
    samples.write_video(folder / 'clip.mp4', [samples.draw(n) for n in range(NUM_FRAMES)])
    return folder


@pytest.fixture
def command(clip, weights):
    """Returns a function: flags, which come after those for the clip -> arguments of a process."""

    def arguments(out, *flags, video='clip.mp4'):
        return [
            *(sys.executable, '-m', 'vos_jax.commands.segment', str(clip / video)),
            *(f'--masks={clip / "first.png"}', f'--weights={weights}', f'--out={out}', *flags),
        ]

    return arguments


@pytest.fixture
def run(forks):
    """Returns a function that runs a command: in a fork, or in a new process for an environment."""

    def finished(arguments, **environment):
        if not environment:
            return forks.run(arguments)
        return subprocess.run(
            arguments,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return finished


def read_masks(out):
    paths = sorted(Path(out, 'masks').glob('*.png'))
    return {path.stem: masks.read_labels(path, samples.SIZE) for path in paths}


@pytest.fixture(scope='session')
def whole(clip, weights, tmp_path_factory):
    """Folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp('whole') / 'out'
    segment(clip, weights, out)
    return out


def segment(clip, weights, out, chosen=None, masks_at='first.png', size=samples.SIZE, **options):
    """The record of a run in this process."""
    video, chosen = open_video(clip / 'clip.mp4'), chosen or Range()
    given = find_masks(clip / masks_at, video, chosen)
    return propagate.segment_video(
        Segmenter.from_pretrained(weights),
        video,
        given,
        chosen,
        Output(out, {'test': str(chosen)}),
        working_size=size,
        ids=given.check(size),
        **options,
    )


def wait_for(path, process, limit_s=200):
    end_s = time.monotonic() + limit_s
    while not path.exists() and process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.01)
    assert path.exists(), process.communicate()


def test_a_killed_run_resumes_and_ends_as_one_that_was_not(command, whole, tmp_path, run):
    out = tmp_path / 'out'
    process = subprocess.Popen(
        command(out, '--state_every=0'), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    wait_for(out / 'state' / 'state.npz', process)
    wait_for(out / 'masks' / '00005.png', process)
    process.kill()
    process.wait()
    assert not (out / 'overlay.mp4').exists()
    written = len(read_masks(out))
    assert 5 < written < NUM_FRAMES, 'the run was not killed in the middle'

    resumed = run(command(out, '--state_every=0'))
    assert resumed.returncode == 0, resumed.stderr
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['computed_frames'] <= NUM_FRAMES - written + 1
    wanted, found = read_masks(whole), read_masks(out)
    assert list(found) == list(wanted)
    for name, labels in wanted.items():
        np.testing.assert_array_equal(found[name], labels, err_msg=name)
    assert len(list(open_video(out / 'overlay.mp4').read())) == NUM_FRAMES
    assert not (out / 'state').exists()
    assert 'finished already' in run(command(out, '--state_every=0')).stdout


@pytest.mark.slow
def test_results_in_a_bucket_are_those_of_a_folder(command, whole, gcs, run):
    place = gcs()
    done = run(command(place.url))
    assert done.returncode == 0, done.stderr
    for name, labels in read_masks(whole).items():
        np.testing.assert_array_equal(read_masks(place.disk)[name], labels, err_msg=name)
    assert (place.disk / 'overlay.mp4').is_file()
    assert 'finished already' in run(command(place.url)).stdout


def test_each_frame_has_a_mask_of_its_size_and_a_picture(whole):
    found = read_masks(whole)
    assert list(found) == [f'{n:05d}' for n in range(NUM_FRAMES)]
    np.testing.assert_array_equal(found['00000'], samples.first_mask())
    assert len({labels.tobytes() for labels in found.values()}) > NUM_FRAMES // 2
    movie = open_video(whole / 'overlay.mp4')
    assert (movie.size, movie.rate) == (samples.SIZE, 25)
    first = next(movie.read())
    middle = (slice(16, 24), slice(14, 20))  # of object 1
    shown = first.image[middle].mean(axis=(0, 1))
    assert np.abs(shown - (np.array([128, 0, 0]) + samples.draw(0)[20, 16]) / 2).max() < 8


def test_the_record_counts_what_the_masks_show(clip, weights, tmp_path):
    record = segment(clip, weights, tmp_path / 'out', Range(stop=8))
    summary = record.summary()
    assert summary['frames'] == [f'{n:05d}' for n in range(8)]
    for number, labels in read_masks(tmp_path / 'out').items():
        index = summary['frames'].index(number)
        for object_id, about in summary['objects'].items():
            pixels = np.count_nonzero(labels == int(object_id))
            assert about['area_px'][index] == pixels
            assert (number in about['empty_frames']) == (pixels == 0)
    assert summary['computed_frames'] == 8
    assert summary['damage'] is None


def test_a_stride_keeps_the_numbers_of_the_frames(clip, weights, tmp_path):
    segment(clip, weights, tmp_path / 'out', Range(3, 20, 4))
    assert list(read_masks(tmp_path / 'out')) == ['00003', '00007', '00011', '00015', '00019']
    movie = list(open_video(tmp_path / 'out' / 'overlay.mp4').read())
    assert [float(frame.time_s) for frame in movie] == pytest.approx([0, 0.16, 0.32, 0.48, 0.64])


def test_given_masks_overwrite_and_add_objects(clip, weights, whole, tmp_path):
    later = np.zeros(samples.SIZE, np.uint8)
    later[2:9, 2:20], later[30:40, 40:60] = 7, 1
    samples.write_mask(clip / 'several' / '00002.png')
    samples.write_mask(clip / 'several' / '00006.png', later)
    record = segment(clip, weights, tmp_path / 'out', Range(stop=10), 'several')
    found = read_masks(tmp_path / 'out')
    assert list(found) == [f'{n:05d}' for n in range(2, 10)]
    assert record.ids == [1, 5, 7]
    np.testing.assert_array_equal(found['00006'][later > 0], later[later > 0])
    assert all(7 not in found[f'{n:05d}'] for n in range(2, 6))


def test_a_smaller_size_for_the_model_keeps_that_of_the_masks(clip, weights, tmp_path):
    size = scaling.working_size(samples.SIZE, 32)
    segment(clip, weights, tmp_path / 'out', Range(stop=4), size=size)
    found = read_masks(tmp_path / 'out')  # checks the size
    np.testing.assert_array_equal(found['00000'], samples.first_mask())
    assert len(np.unique(found['00003'])) > 1


def test_a_mask_after_the_end_is_reported_with_all_frames_done(clip, weights, tmp_path):
    samples.write_mask(clip / 'late' / '00000.png')
    samples.write_mask(clip / 'late' / '00099.png')
    record = segment(clip, weights, tmp_path / 'out', masks_at='late', draw=False)
    assert 'has no frame 99, its last is 29' in record.damage
    assert len(read_masks(tmp_path / 'out')) == NUM_FRAMES


@pytest.mark.slow
def test_a_damaged_folder_resumes_when_it_is_repaired(clip, weights, tmp_path, run):
    for number in range(6):
        frames.write_frame(tmp_path / 'video' / f'{number}.jpg', samples.draw(number))
    broken = tmp_path / 'video' / '4.jpg'
    good = broken.read_bytes()
    broken.write_bytes(good[:200])
    arguments = [
        *(sys.executable, '-m', 'vos_jax.commands.segment', str(tmp_path / 'video')),
        *(f'--masks={clip / "first.png"}', f'--weights={weights}', f'--out={tmp_path / "out"}'),
    ]
    refused = run(arguments)
    assert refused.returncode == 2
    assert refused.stderr.count('\n') == 1
    assert '4.jpg' in refused.stderr
    assert sorted(read_masks(tmp_path / 'out')) == ['0', '1', '2', '3']
    broken.write_bytes(good)
    assert run(arguments).returncode == 0
    assert json.loads((tmp_path / 'out' / 'summary.json').read_text())['computed_frames'] == 2
    assert sorted(read_masks(tmp_path / 'out')) == ['0', '1', '2', '3', '4', '5']


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--masks=none.png'], 'none.png: no such mask'),
        (['--short_side=7'], '--short_side=7: at least'),
        (['--size=480'], '--short_side=480'),
        (['--start=90'], 'frames, none of them from frame 90 on; choose another --start'),
        (['--weights=none.npz'], 'none.npz: no such file'),
        (['--workdir=a', '--weights=b'], 'choose one'),
        (['--sise=240'], "Unknown command line flag 'sise'"),
    ],
)
def test_wrong_input_ends_with_one_line_and_code_2(command, tmp_path, flags, message, run):
    refused = run(command(tmp_path / 'out', *flags))
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_the_examples_of_the_docs_run(clip, weights, whole, tmp_path, monkeypatch):
    page = (REPOSITORY / 'docs' / 'own_video.md').read_text()
    first, rest = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    for name, path in (('giel_lite', weights), ('video.mp4', clip / 'clip.mp4')):
        assert name in first
        first = first.replace(name, str(path))
    monkeypatch.chdir(tmp_path)
    samples.write_mask(tmp_path / 'first.png')
    names = {}
    exec(first, names)
    wanted, found = read_masks(whole), read_masks(tmp_path)
    assert list(found) == list(wanted)
    for name, labels in wanted.items():
        np.testing.assert_array_equal(found[name], labels, err_msg=name)
    exec(rest, names)
    for index, count in ((0, NUM_FRAMES), (1, 3)):
        assert len(list((tmp_path / f'video{index}').glob('*.png'))) == count


def test_other_weights_are_another_run(command, whole, run):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob('*')}
    refused = run(command(whole))
    assert refused.returncode == 2
    assert 'holds results of another run' in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in whole.rglob('*')} == before


# The process at the other end of the pipe: frames and resident megabytes, now and then.
_WATCHED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_segment import segment
from vos_jax.video.reader import Range

def report(name):
    if int(name) % 100 == 0:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        print(name, pages * 4096 / 2**20, flush=True)

clip, weights, out = map(Path, sys.argv[1:])
segment(clip, weights, out, on_frame=report, state_every_s=0.5)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs /proc')
def test_memory_does_not_grow_with_the_video(weights, tmp_path, run):
    samples.write_mask(tmp_path / 'first.png')
    samples.write_video(tmp_path / 'clip.mp4', (samples.draw(n) for n in range(2000)))
    code = _WATCHED.format(root=str(REPOSITORY))
    arguments = [sys.executable, '-c', code, str(tmp_path), str(weights), str(tmp_path / 'out')]
    ended = run(arguments, XLA_FLAGS='')  # so many frames that optimising the program pays
    assert ended.returncode == 0, ended.stderr
    used_mb = {int(n): float(mb) for n, mb in map(str.split, ended.stdout.splitlines())}
    assert len(read_masks(tmp_path / 'out')) == 2000
    # 1,600 frames are 16 MB, and measured without a limit their memory entries are 34 MB. Up to
    # frame 300 the memory fills and everything is compiled.
    assert used_mb[1900] - used_mb[300] < 8, used_mb


@pytest.mark.slow
def test_a_full_disk_ends_with_one_line_and_keeps_what_is_done(command, tmp_path, run):
    """A limit on the size of files stands for the disk: the overlay passes it, no mask does."""
    noise = np.random.default_rng(0).integers(0, 256, (150, *samples.SIZE, 3), np.uint8)
    samples.write_video(tmp_path / 'noise.mp4', noise)
    limit = 'import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000));'
    arguments = command(tmp_path / 'out', '--state_every=1000', video=tmp_path / 'noise.mp4')
    limited = [sys.executable, '-c', f'{limit} os.execv(sys.executable, sys.argv[1:])', *arguments]
    # A cache of its own: it cannot be written either.
    refused = run(limited, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'cache'))
    assert refused.returncode == 2, refused.stderr
    assert 'cannot be written (File too large)' in refused.stderr
    assert not list((tmp_path / 'out').glob('*.mp4'))
    assert 0 < len(read_masks(tmp_path / 'out')) < 150
    assert run(arguments).returncode == 0
    assert len(read_masks(tmp_path / 'out')) == 150


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_resume(command, clip, tmp_path, run):
    out, num_frames = tmp_path / 'out', 300  # so many that it cannot end before the signal
    samples.write_video(clip / 'long.mp4', [samples.draw(n % 30) for n in range(num_frames)])
    arguments = command(out, '--state_every=0', video='long.mp4')
    # Shells let their background jobs ignore SIGINT, and children inherit that.
    heed = 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);'
    process = subprocess.Popen(
        [sys.executable, '-c', f'{heed} os.execv(sys.executable, sys.argv[1:])', *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(out / 'masks' / '00003.png', process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert 'the same command resumes' in output
    assert run(arguments).returncode == 0
    assert len(read_masks(out)) == num_frames


@pytest.mark.slow
def test_a_training_run_gives_the_masks_of_its_weights(clip, weights, whole, tmp_path, run):
    loaded, workdir = load_weights(weights), tmp_path / 'run'
    recipe.save(loaded.config, workdir)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save_best(7, loaded.variables, jf=0.5)
        checkpoints.wait()
    arguments = [
        *(sys.executable, '-m', 'vos_jax.commands.segment', str(clip / 'clip.mp4')),
        *(f'--masks={clip / "first.png"}', f'--workdir={workdir}', f'--out={tmp_path / "out"}'),
    ]
    ended = run([*arguments, '--stop=6'])
    assert ended.returncode == 0, ended.stderr
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['settings']['step'] == 7
    wanted, found = read_masks(whole), read_masks(tmp_path / 'out')
    assert list(found) == list(wanted)[:6]
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, wanted[name], err_msg=name)


@pytest.mark.slow
def test_a_state_survives_its_file_in_bfloat16(weights, tmp_path):
    """NumPy's files do not know bfloat16, which models have for their memory on GPUs."""
    loaded = load_weights(weights)
    model = {**loaded.config['model'], 'dtype': 'bfloat16'}
    one, other = (
        Segmenter.from_config({**loaded.config, 'model': model}, loaded.variables) for _ in '12'
    )
    one.start(samples.draw(0), samples.first_mask())
    for number in range(1, 5):
        one.step(samples.draw(number))
    kinds = {leaf.dtype.name for leaves in one.state()['entries'].values() for leaf in leaves}
    assert 'bfloat16' in kinds
    output = Output(tmp_path, {})
    output.save_state(4, one.state())
    number, state = output.load_state()
    other.restore(state)
    assert number == 4
    for number in range(5, 8):
        wanted = one.step(samples.draw(number), probabilities=True)
        found = other.step(samples.draw(number), probabilities=True)
        np.testing.assert_array_equal(found[1], wanted[1])
