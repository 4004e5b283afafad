"""The checker finds what is wrong, in published and in prepared sets, and invents nothing."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_prep import check
from data_prep.builders import DATA_SETS
from data_prep.prepare import prepare
from vos_jax.data import prepared
from vos_jax.data.masks import read_labels, write_labels

DAVIS = DATA_SETS['davis2017']


def problems_of(name, *sources, **options):
    found = check.check(DATA_SETS[name], list(map(str, sources)), **options)
    return [problem for part in found.values() for problem in part.problems]


def test_nothing_is_wrong_with_whole_sets(davis, youtube_vos):
    assert problems_of('davis2017', davis) == []
    assert problems_of('youtube_vos2018', youtube_vos) == []


def test_photographs_are_checked(write_image):
    for name in 'ab':
        frame = write_image(f'ECSSD/images/{name}.png', np.zeros((16, 24, 3), np.uint8))
        write_image(f'ECSSD/mask/{name}.png', np.full((16, 24), 255 * (name == 'a'), np.uint8))
    (problem,) = problems_of('static_images', frame.parents[1])
    assert 'ECSSD-b: no object in any of its 1 masks' in problem


def test_numbers_are_compared_with_the_published_ones(davis):
    found = check.check(DAVIS, [str(davis)])
    lines, problems = check.format_table(DAVIS, found)
    assert '3 of 60' in lines[1]
    assert '4 of 144' in lines[1]
    assert 'absent' in lines[3]
    assert 'train: 3 videos, published are 60' in problems
    assert check.format_table(DAVIS, found, counts=False)[1] == []


def cut_a_jpeg(root):
    path = root / 'JPEGImages/480p/a/00001.jpg'
    path.write_bytes(path.read_bytes()[:300])


def resize_a_mask(root):
    write_labels(root / 'Annotations/480p/a/00001.png', np.ones((3, 4), np.uint8))


def resize_a_frame(root):
    Image.new('RGB', (4, 3)).save(root / 'JPEGImages/480p/a/00001.jpg')


def deepen_a_mask(root):
    path = root / 'Annotations/480p/a/00001.png'
    Image.fromarray(np.ones((32, 48), np.uint16)).save(path)


def lose_a_mask(root):
    (root / 'Annotations/480p/a/00001.png').unlink()


def lose_a_frame(root):
    (root / 'JPEGImages/480p/a/00001.jpg').unlink()


def lose_all_frames(root):
    for path in (root / 'JPEGImages/480p/a').iterdir():
        path.unlink()


def leave_out_an_id(root):
    for path in (root / 'Annotations/480p/a').iterdir():
        labels = read_labels(path)
        write_labels(path, np.where(labels == 2, 3, labels).astype(np.uint8))


def smooth_a_mask(root):
    ramp = np.arange(32 * 48, dtype=np.uint32).reshape(32, 48) % 200
    write_labels(root / 'Annotations/480p/a/00001.png', ramp.astype(np.uint8))


def make_a_mask_void(root):
    path = root / 'Annotations/480p/a/00001.png'
    write_labels(path, np.where(read_labels(path) > 0, np.uint8(255), 0))


def empty_all_masks(root):
    for path in (root / 'Annotations/480p/a').iterdir():
        write_labels(path, np.zeros((32, 48), np.uint8))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (cut_a_jpeg, 'a/00001.jpg: unreadable JPEG'),
        (resize_a_mask, 'a/00001.png: mask of size 4x3, its frame is 48x32'),
        (resize_a_frame, 'a/00001.jpg: frame of size 4x3, the first of its video is 48x32'),
        (deepen_a_mask, 'a/00001.png: 16-bit image'),
        (lose_a_mask, 'a/00001.png: this mask is missing (1 of 3'),
        (lose_a_frame, 'a/00001.png: mask without a frame'),
        (lose_all_frames, 'a: no frames'),
        (leave_out_an_id, 'a: ids out of order: [1, 3], must be 1 to 2'),
        (smooth_a_mask, 'a/00001.png: 200 different values'),
        (make_a_mask_void, 'a/00001.png: only 0 and 255 (void) in it, but ids in other masks of a'),
        (empty_all_masks, 'a: no object in any of its 3 masks'),
    ],
)
def test_damage_is_found_and_named(davis, damage, message):
    damage(davis)
    problems = problems_of('davis2017', davis)
    assert len(problems) == 1
    assert message in problems[0]


def test_ids_that_meta_json_does_not_know_are_found(youtube_vos):
    path = youtube_vos / 'train/Annotations/v/00005.png'
    labels = read_labels(path)
    labels[0, 0] = 9
    write_labels(path, labels)
    (problem,) = problems_of('youtube_vos2018', youtube_vos)
    assert problem.endswith('v/00005.png: stray value 9, the objects of v are [1, 5]')


def test_an_object_that_does_not_appear_when_it_should_is_found(youtube_vos):
    path = youtube_vos / 'valid/Annotations/v/00010.png'
    write_labels(path, np.zeros((32, 48), np.uint8))
    (problem,) = problems_of('youtube_vos2018', youtube_vos)
    assert 'v/00010.png: object 5 is not in it' in problem


def test_frames_that_meta_json_names_must_be_there(youtube_vos):
    (youtube_vos / 'valid/JPEGImages/v/00015.jpg').unlink()
    (problem,) = problems_of('youtube_vos2018', youtube_vos)
    assert 'v/00015.jpg: this frame is missing' in problem


@pytest.fixture
def shards(davis, tmp_path):
    pytest.importorskip('tensorflow_datasets', reason='pip install -e .[prepare]')
    return prepare('davis2017', [davis], tmp_path / 'out')[0]


def test_a_prepared_set_is_checked_record_by_record(shards):
    assert problems_of('davis2017', shards) == []
    shard = prepared.prepared(shards, 'train')[1].frames[0].shard
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (problem,) = problems_of('davis2017', shards)
    assert f'{shard.name}: damaged' in problem
    shard.write_bytes(data[: len(data) // 2])
    (problem,) = problems_of('davis2017', shards)
    assert 'the shard was cut' in problem


def test_a_picture_of_clips_is_drawn(davis, shards, tmp_path):
    for number, source in enumerate((davis, shards)):
        groups, _ = check.list_groups(DAVIS, [str(source)], (), '480p')
        check.write_preview(tmp_path / f'{number}.png', groups['train'], num_clips=2)
        with Image.open(tmp_path / f'{number}.png') as image:
            assert image.size == (3 * 360 + 2 * 4, 2 * 244)


def test_the_command_fails_where_anything_is_wrong(davis):
    command = [
        sys.executable,
        '-m',
        'vos_jax.commands.check',
        'davis2017',
        f'--data={davis}',
        '--workers=1',
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'train: 3 videos, published are 60\n' in result.stdout
    assert result.stdout.endswith('6 problems\n')
