"""evaluate.py from weights to report, in processes of its own, with a tiny GIEL."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import devices_flag

EVALUATE = str(Path(__file__).resolve().parents[2] / 'evaluate.py')


@pytest.fixture
def flags(tiny_weights):
    """Returns a function: (root, out, ...) -> the flags of an evaluation by DAVIS-2017."""

    def make(root, out, protocol='davis2017', weights=tiny_weights):
        return (f'--weights={weights}', f'--protocol={protocol}', f'--data={root}', f'--out={out}')

    return make


@pytest.fixture
def root(make_davis, draw):
    return make_davis({'dog': draw(5, ids=(1, 2)), 'owl': draw(6), 'eel': draw(4, ids=(2,))})


def read_masks(out):
    return {
        str(path.relative_to(out)): np.array(Image.open(path))
        for path in sorted((out / 'masks').rglob('*.png'))
    }


def read_scores(out):
    results = json.loads((out / 'results.json').read_text())
    return {one['name']: (one['J'], one['F']) for one in results['sequences']}


def test_an_evaluation_leaves_masks_scores_zip_and_report(root, flags, evaluate, tmp_path):
    result = evaluate(*flags(root, tmp_path / 'out'), '--zip')
    assert result.returncode == 0, result.stderr
    masks = read_masks(tmp_path / 'out')
    assert len(masks) == 15
    assert set(np.unique(masks['masks/eel/00002.png'])) <= {0, 2}
    values = json.loads((tmp_path / 'out/results.json').read_text())
    assert values['fps'] > 0
    assert values['settings']['model.name'] == 'giel'
    assert 'frames that compiled' in values['fps_includes']
    assert (tmp_path / 'out/global_results-val.csv').is_file()
    assert (tmp_path / 'out/report/index.html').is_file()
    assert zipfile.is_zipfile(tmp_path / 'out/davis2017-val-480p.zip')
    assert '[3/3]' in result.stdout
    assert 'ETA 0 s' in result.stdout


@pytest.mark.slow
def test_sequences_in_folders_are_apart_everywhere(make_davis, draw, flags, evaluate, tmp_path):
    root = make_davis({'x/a': draw(5), 'y/a': draw(6, ids=(1, 2)), 'x': draw(4)})
    arguments = (*flags(root, tmp_path / 'out'), '--zip')
    for told in ('3 sequences', '3 of 3 sequences are finished already'):
        result = evaluate(*arguments)
        assert result.returncode == 0, result.stderr
        assert told in result.stdout
    counts = {name: len(list((tmp_path / 'out/masks' / name).glob('*.png'))) for name in
              ('x/a', 'y/a', 'x')}  # fmt: skip
    assert counts == {'x/a': 5, 'y/a': 6, 'x': 4}
    again = evaluate(*flags(root, tmp_path / 'again')[1:], f'--results={tmp_path}/out/masks')
    assert again.returncode == 0, again.stderr
    assert read_scores(tmp_path / 'again') == read_scores(tmp_path / 'out')


def test_scoring_the_written_masks_again_gives_the_same_files(root, flags, evaluate, tmp_path):
    assert evaluate(*flags(root, tmp_path / 'a'), '--noreport').returncode == 0
    again = evaluate(
        f'--results={tmp_path}/a/masks',
        '--protocol=davis2017',
        f'--data={root}',
        f'--out={tmp_path}/b',
        '--noreport',
    )
    assert again.returncode == 0, again.stderr
    for name in ('global_results-val.csv', 'per-sequence_results-val.csv'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_finished_sequences_are_kept_and_changed_ones_are_made_again(
    root, flags, evaluate, tmp_path
):
    out = tmp_path / 'out'
    assert evaluate(*flags(root, out), '--noreport').returncode == 0
    before = read_masks(out)
    times = {path: path.stat().st_mtime_ns for path in (out / 'masks').rglob('*.png')}
    (out / 'masks/owl/00003.png').write_bytes(b'broken')
    result = evaluate(*flags(root, out), '--noreport')
    assert '2 of 3 sequences are finished already' in result.stdout
    after = read_masks(out)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    changed = {path.parent.name for path, t in times.items() if path.stat().st_mtime_ns != t}
    assert changed == {'owl'}


def test_a_killed_run_leaves_whole_masks_and_resumes(make_davis, draw, flags, tmp_path):
    root = make_davis({f's{n}': draw(12) for n in range(8)})
    out = tmp_path / 'out'
    command = [sys.executable, EVALUATE, *flags(root, out), '--noreport']
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 600
    while not list(out.glob('finished/*.json')):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path.stem for path in out.glob('finished/*.json')}
    assert 0 < len(finished) < 8
    for labels in read_masks(out).values():  # fails on a broken file
        assert labels.shape == (48, 64)
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert f'{len(finished)} of 8 sequences are finished already' in result.stdout
    assert len(read_masks(out)) == 96
    assert list((out / 'masks').rglob('.*')) == []


@pytest.mark.slow
def test_two_devices_give_the_scores_of_one(root, flags, evaluate, tmp_path):
    assert evaluate(*flags(root, tmp_path / 'one'), '--noreport').returncode == 0
    two = evaluate(
        *flags(root, tmp_path / 'two'),
        '--noreport',
        XLA_FLAGS=devices_flag(2),
    )
    assert '2 x cpu' in two.stdout, two.stderr
    # On CPUs virtual devices change the number of threads, and so the last bits (see docs):
    # with eight of them 1 pixel of 16,320 at a tie of these random weights turned, J&F by 3e-8.
    scores, others = read_scores(tmp_path / 'one'), read_scores(tmp_path / 'two')
    assert scores.keys() == others.keys()
    for name, values in scores.items():
        np.testing.assert_allclose(others[name], values, atol=0.05)  # objects of 100 pixels
    one, other = read_masks(tmp_path / 'one'), read_masks(tmp_path / 'two')
    assert one.keys() == other.keys()
    assert all(np.count_nonzero(one[name] != other[name]) <= 3 for name in one)


@pytest.mark.slow
def test_sequences_side_by_side_get_the_masks_of_each_alone(root, flags, evaluate, tmp_path):
    for size in (1, 3):
        ended = evaluate(*flags(root, tmp_path / str(size)), '--noreport', f'--batch_size={size}')
        assert ended.returncode == 0, ended.stderr
    one, other = read_masks(tmp_path / '1'), read_masks(tmp_path / '3')
    assert one.keys() == other.keys()
    # Ties between objects may fall either way in another program.
    assert all(np.count_nonzero(one[name] != other[name]) <= 3 for name in one)


def start_two_processes(*flags, of_second=()):
    """Starts evaluate.py as two processes."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    command = [sys.executable, EVALUATE, *flags, '--noreport']
    command += [f'--coordinator_address=127.0.0.1:{port}', '--num_processes=2']
    return [
        subprocess.Popen(
            [*command, f'--process_id={index}', *(of_second if index else ())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


def run_two_processes(*flags, of_second=()):
    """Exit codes, stdouts and stderrs of `start_two_processes`."""
    processes = start_two_processes(*flags, of_second=of_second)
    texts = [process.communicate(timeout=600) for process in processes]
    return [process.returncode for process in processes], *zip(*texts)


@pytest.mark.slow
def test_two_processes_share_the_sequences_and_merge_once(root, flags, evaluate, tmp_path, place):
    assert evaluate(*flags(root, tmp_path / 'one'), '--noreport').returncode == 0
    codes, texts, errors = run_two_processes(*flags(root, place.url))
    assert codes == [0, 0], errors
    assert read_scores(place.disk) == read_scores(tmp_path / 'one')
    assert ['all objects' in text for text in texts] == [True, False]
    segmented = [text.count('FPS') for text in texts]
    assert sum(segmented) == 3
    assert min(segmented) > 0


@pytest.mark.slow
def test_process_0_does_not_wait_for_one_that_failed(root, flags, tmp_path):
    frame = root / 'JPEGImages/480p/dog/00002.jpg'  # the longest but one: of process 1
    Image.open(frame).resize((32, 24)).save(frame)
    codes, _, errors = run_two_processes(*flags(root, tmp_path / 'out'))
    assert codes == [2, 2], errors
    assert 'error: process 1: ' in errors[0]
    assert 'dog/00002.jpg: frame of size 32x24' in errors[0]


@pytest.mark.slow
def test_an_output_folder_of_other_weights_is_refused(
    root, flags, evaluate, tmp_path, tiny_weights
):
    from vos_jax import weights

    out = tmp_path / 'out'
    assert evaluate(*flags(root, out), '--noreport').returncode == 0
    loaded = weights.load_weights(tiny_weights)
    named = weights.named(loaded.variables)
    next(iter(named.values()))[...] += 1
    weights.export_weights(tmp_path / 'other.npz', loaded.variables, loaded.config)
    other = flags(root, out, weights=tmp_path / 'other.npz')
    refused = evaluate(*other, '--noreport')
    assert refused.returncode == 2
    assert 'holds results with weights' in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    anew = evaluate(*other, '--noreport', '--overwrite')
    assert anew.returncode == 0, anew.stderr
    assert 'finished already' not in anew.stdout


def test_late_objects_of_youtube_vos_reach_the_zip(make_youtube, draw, flags, evaluate, tmp_path):
    root = make_youtube({'a': (draw(6, ids=(2, 5)), {5: 1, 2: 3})})
    result = evaluate(*flags(root, tmp_path / 'out', protocol='youtube_vos2019'), '--zip')
    assert result.returncode == 0, result.stderr
    masks = read_masks(tmp_path / 'out')
    assert sorted(masks) == [f'masks/a/000{t:02d}.png' for t in (5, 10, 15, 20, 25)]
    given = draw(6, ids=(2, 5))
    assert 2 not in masks['masks/a/00010.png']
    np.testing.assert_array_equal(masks['masks/a/00015.png'] == 2, given[3] == 2)
    with zipfile.ZipFile(tmp_path / 'out/youtube_vos2019-valid-sparse.zip') as packed:
        assert len(packed.namelist()) == 5
    assert not (tmp_path / 'out/global_results-valid.csv').exists()


def test_frames_of_another_size_end_the_run_but_not_what_is_finished(
    root, flags, evaluate, tmp_path
):
    frame = root / 'JPEGImages/480p/eel/00002.jpg'  # the shortest sequence comes last
    Image.open(frame).resize((32, 24)).save(frame)
    result = evaluate(*flags(root, tmp_path / 'out'), '--noreport')
    assert result.returncode == 2
    assert 'eel/00002.jpg: frame of size 32x24' in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(path.stem for path in (tmp_path / 'out/finished').iterdir()) == ['dog', 'owl']


def test_an_empty_first_mask_is_found_before_work_starts(
    make_davis, draw, flags, evaluate, tmp_path
):
    root = make_davis({'dog': draw(5), 'owl': draw(4) * 0})
    result = evaluate(*flags(root, tmp_path / 'out'))
    assert result.returncode == 2
    assert 'owl/00000.png: no object in it' in result.stderr
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def training_run(tiny_weights, tmp_path):
    """Workdir of a run with checkpoints of steps 10, 20 and 30, of which 20 is the best."""
    from vos_jax import recipe, weights
    from vos_jax.training import checkpoints

    loaded = weights.load_weights(tiny_weights)
    recipe.save({**loaded.config, 'training': {'steps': 30}}, tmp_path / 'run')
    with checkpoints.Checkpoints(tmp_path / 'run', keep=3) as saved:
        for step in (10, 20, 30):
            saved.save(step, loaded.variables)
        saved.save_best(20, loaded.variables, 0.9)
    return tmp_path / 'run'


@pytest.mark.slow
def test_checkpoints_of_a_run_are_evaluated_and_the_best_is_named(
    root, training_run, evaluate, tmp_path
):
    where = (f'--workdir={training_run}', '--protocol=davis2017', f'--data={root}', '--noreport')
    result = evaluate(*where, '--last=2', f'--out={tmp_path}/out')
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['step-20', 'step-30']
    assert 'best: step 20' in result.stdout
    result = evaluate(*where, '--all', f'--out={tmp_path}/out')
    assert 'step-10' in {path.name for path in (tmp_path / 'out').iterdir()}, result.stderr
    refused = evaluate(*where, '--all', '--step=10', f'--out={tmp_path}/out10')
    assert refused.returncode == 2
    assert '--all needs --workdir and none of --step' in refused.stderr
    refused = evaluate(*where, '--step=11', f'--out={tmp_path}/out11')
    assert refused.returncode == 2
    assert 'no checkpoint of step 11; steps there: 10, 20, 30' in refused.stderr


@pytest.mark.slow
def test_a_checkpoint_that_is_removed_meanwhile_is_left_out(root, training_run, tmp_path):
    where = (f'--workdir={training_run}', '--protocol=davis2017', f'--data={root}', '--noreport')
    command = [
        sys.executable,
        EVALUATE,
        *where,
        '--all',
        f'--out={tmp_path}/out',
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / 'out/step-10').exists():
        time.sleep(0.01)
    shutil.rmtree(training_run / 'checkpoints/latest/30')
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['step-10', 'step-20']
    assert 'best: step ' in output


def damage(folder):
    """Changes a byte in the middle of the largest file of a checkpoint."""
    path = max(
        (file for file in folder.rglob('*') if file.is_file()), key=lambda f: f.stat().st_size
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_others_are_evaluated(
    root, training_run, evaluate, tmp_path
):
    damage(training_run / 'checkpoints/latest/10')
    where = (f'--workdir={training_run}', '--protocol=davis2017', f'--data={root}', '--noreport')
    for chosen, out in (('--all', 'a'), ('--follow', 'b')):
        result = evaluate(*where, chosen, f'--out={tmp_path / out}')
        assert result.returncode == 2
        assert sorted(path.name for path in (tmp_path / out).iterdir()) == ['step-20', 'step-30']
        assert 'best: step ' in result.stdout
        first, last = result.stderr.splitlines()
        assert first.startswith(f'error: {training_run}/checkpoints/latest/10: damaged (')
        assert last == 'error: not evaluated: 10, as said above'


@pytest.mark.slow
def test_two_processes_leave_out_what_one_of_them_cannot_read(root, training_run, tmp_path):
    damage(training_run / 'checkpoints/latest/30')
    out = tmp_path / 'out'
    where = (f'--workdir={training_run}', '--protocol=davis2017', f'--data={root}', f'--out={out}')
    codes, texts, errors = run_two_processes(*where, '--last=2', '--noreport')
    assert codes == [2, 2], errors
    assert 'best: step 20' in texts[0]
    assert len(read_masks(out / 'step-20')) == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ('flags_of_second', 'words'),
    [
        (('--max_edge=64',), 'process 1 has --max_edge 64, process 0 None; give all the same'),
        (('--weights={other}',), 'process 1 has weights'),
        (('--data={changed}',), 'process 1 has sequences.eel '),
    ],
)
def test_processes_with_different_flags_or_files_end_at_once(
    root, flags, tiny_weights, tmp_path, flags_of_second, words
):
    import jax

    from vos_jax import weights

    other = tmp_path / 'other.npz'
    loaded = weights.load_weights(tiny_weights)
    variables = jax.tree.map(lambda x: x * 1.01, loaded.variables)
    weights.export_weights(other, variables, loaded.config)
    changed = shutil.copytree(root, tmp_path / 'changed')
    masks = changed / 'Annotations/480p/eel'
    shutil.copy(masks / '00000.png', masks / '00002.png')
    second = [flag.format(other=other, changed=changed) for flag in flags_of_second]
    codes, _, errors = run_two_processes(*flags(root, tmp_path / 'out'), of_second=second)
    assert codes == [2, 2], errors
    assert all(words in error for error in errors)
    assert not (tmp_path / 'out/masks').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('chosen', 'folders', 'step'),
    [
        ((), ('',), 20),
        (('--step=latest',), ('',), 30),
        (('--last=2',), ('step-20', 'step-30'), 30),
        (('--follow',), ('step-10', 'step-20', 'step-30'), 30),
    ],
)
def test_two_processes_evaluate_a_run(root, training_run, tmp_path, chosen, folders, step):
    out = tmp_path / 'out'
    where = (f'--workdir={training_run}', '--protocol=davis2017', f'--data={root}', f'--out={out}')
    codes, texts, errors = run_two_processes(*where, *chosen)
    assert codes == [0, 0], errors
    for folder in folders:
        assert len(read_masks(out / folder)) == 15
    results = json.loads((out / folders[-1] / 'results.json').read_text())
    assert results['step'] == step
    assert sum(text.count('FPS') for text in texts) == 3 * len(folders)


@pytest.mark.slow
def test_a_signal_ends_processes_that_wait(root, training_run, tmp_path):
    config = json.loads((training_run / 'config.json').read_text())
    config['training']['steps'] = 40
    (training_run / 'config.json').write_text(json.dumps(config))
    where = (f'--workdir={training_run}', '--protocol=davis2017', f'--data={root}')
    processes = start_two_processes(*where, f'--out={tmp_path}/out', '--follow')
    lines = iter(processes[0].stdout.readline, '')
    assert next(
        line for line in lines if 'checkpoint after step 30; the run ends at step 40' in line
    )
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGTERM


def test_output_that_cannot_be_written_is_refused_first(root, flags, evaluate, tmp_path):
    (tmp_path / 'file').write_text('')
    result = evaluate(*flags(root, tmp_path / 'file/out'))
    assert result.returncode == 2
    assert 'cannot be written (Not a directory)' in result.stderr
    assert 'FPS' not in result.stdout
