"""The procedural data set."""

import hashlib

import numpy as np
import pytest

from vos_jax.data import layouts, scenes
from vos_jax.errors import InputError

SIZE = (48, 80)


def write(root, seed=0, **changes):
    wanted = {'num_train': 2, 'num_val': 1, 'frames': 4, 'size': SIZE} | changes
    scenes.write_dataset(root, seed=seed, **wanted)
    return root


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_it_is_a_set_in_the_davis_layout(tmp_path):
    root = write(tmp_path / 'set')
    for year in ('2016', '2017'):
        train = layouts.davis(root, 'train', year)
        val = layouts.davis(root, 'val', year)
        assert [s.name for s in train + val] == [f'synthetic-{i:04d}' for i in range(3)]
    layouts.require_masks(train + val)
    for sequence in train + val:
        assert sequence.frames[0].parent.parent.name == '48p'
        assert len(sequence.frames) == 4
        assert sequence.read_frame(3).shape == (*SIZE, 3)
        given = sequence.read_given('00000')
        ids = set(np.unique(given))
        assert ids == set(range(len(ids)))
        for stem in sequence.stems:
            assert set(np.unique(sequence.read_labels(stem))) <= ids


def test_the_same_seed_gives_the_same_files(tmp_path):
    first = digest(write(tmp_path / 'a'))
    assert first == digest(write(tmp_path / 'b'))
    other = digest(write(tmp_path / 'c', seed=1))
    assert (
        other['JPEGImages/48p/synthetic-0000/00000.jpg']
        != (first['JPEGImages/48p/synthetic-0000/00000.jpg'])
    )


@pytest.mark.parametrize('seed', range(4))
def test_objects_are_visible_at_first_move_and_change(seed):
    frames, labels = scenes.render_sequence(np.random.default_rng(seed), 8, SIZE)
    ids = np.unique(labels[0])[1:]
    assert ids.tolist() == list(range(1, len(ids) + 1))
    for object_id in ids:
        first, last = labels[0] == object_id, labels[-1] == object_id
        assert first.sum() >= 0.004 * first.size
        assert np.any(first != last)
    assert np.all(np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 2)


def test_objects_cover_each_other():
    """Somewhere an object loses more than half of its pixels while it is inside the frame."""
    lost = 0
    for seed in range(6):
        _, labels = scenes.render_sequence(np.random.default_rng(seed), 12, SIZE)
        inner = labels[:, 4:-4, 4:-4]
        for object_id in np.unique(labels[0])[1:]:
            at_border = (labels == object_id).sum() - (inner == object_id).sum()
            counts = (labels == object_id).sum(axis=(1, 2))
            lost += at_border == 0 and counts.min() < counts.max() / 2
    assert lost > 0


def test_a_set_that_is_there_is_left_alone(tmp_path):
    root = write(tmp_path / 'set')
    stamp = (root / 'ImageSets/2017/val.txt').stat().st_mtime_ns
    lines = []
    write(root, report=lines.append)
    assert (root / 'ImageSets/2017/val.txt').stat().st_mtime_ns == stamp
    assert lines == [f'{root}: this data set is there already']


def test_an_interrupted_set_is_completed(tmp_path):
    root = write(tmp_path / 'set')
    whole = digest(root)
    (root / 'synthetic.json').unlink()
    (root / 'JPEGImages/48p/synthetic-0001/00002.jpg').unlink()
    assert digest(write(root)) == whole


def test_other_files_are_not_written_over(tmp_path):
    root = write(tmp_path / 'set')
    with pytest.raises(InputError, match='holds a data set of other settings'):
        write(root, seed=1)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.txt').write_text('mine')
    with pytest.raises(InputError, match='photos: holds something else'):
        write(tmp_path / 'photos')


def test_the_command_writes_a_set_and_says_where(run_python, tmp_path):
    command = 'import runpy; runpy.run_module("vos_jax.commands.made_up", run_name="__main__")'
    flags = ['--num_train=1', '--num_val=1', '--frames=3', '--size=64x48']
    result = run_python(command, f'--out={tmp_path / "set"}', *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f'data set in {tmp_path / "set"}'
    assert len(layouts.davis(tmp_path / 'set', 'val')[0].frames) == 3
