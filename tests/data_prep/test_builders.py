"""Photographs of COCO, VOC, SBD and pairs, read as published."""

import json

import numpy as np
import pytest

from data_prep.builders import DATA_SETS
from data_prep.builders.coco import read_counts
from data_prep.builders.files import FileTree
from data_prep.builders.videos import read_video
from data_prep.prepare import list_videos
from vos_jax.errors import InputError


def read_stills(*roots):
    """dict of name -> (labels, objects) of all photographs."""
    trees = [FileTree([root]) for root in roots]
    videos = list_videos(DATA_SETS['static_images'], trees, (), {})['train']
    found = {}
    for video in videos:
        example, labels = read_video(video)
        found[video.name] = next(iter(labels.values())), example['objects']
    return found


IMAGE = np.full((6, 8, 3), 90, np.uint8)


def test_pairs_in_two_folders_are_cut_at_half(tmp_path, write_image):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:6] = [255, 200, 100]  # an edge that was smoothed
    write_image('DUTS-TR/DUTS-TR-Image/a.jpg', IMAGE)
    write_image('DUTS-TR/DUTS-TR-Mask/a.png', mask)
    labels, objects = read_stills(tmp_path / 'DUTS-TR')['DUTS-TR-a']
    np.testing.assert_array_equal(labels, mask >= 128)
    assert objects == [{'id': 1, 'category': '', 'first_frame': 'a'}]


def test_pairs_in_one_folder_and_masks_of_ids(tmp_path, write_image):
    write_image('MSRA10K/Imgs/b.jpg', IMAGE)
    write_image('MSRA10K/Imgs/b.png', np.full((6, 8), 255, np.uint8))
    ids = np.zeros((6, 8), np.uint8)
    ids[0, :3], ids[5] = 7, 255
    write_image('own/images/c.png', IMAGE)
    write_image('own/masks/c.png', ids)
    found = read_stills(tmp_path / 'MSRA10K', tmp_path / 'own')
    assert np.all(found['MSRA10K-b'][0] == 1)
    np.testing.assert_array_equal(found['own-c'][0], ids)


def test_an_image_without_mask_is_named(tmp_path, write_image):
    for name in 'ab':
        write_image(f'ECSSD/images/{name}.jpg', IMAGE)
    write_image('ECSSD/ground_truth_mask/a.png', np.full((6, 8), 255, np.uint8))
    with pytest.raises(InputError, match=r'images/b\.jpg: image without mask'):
        read_stills(tmp_path / 'ECSSD')


def test_voc_and_sbd_keep_instances_and_void(tmp_path, write_image):
    ids = np.zeros((6, 8), np.uint8)
    ids[1:3, 1:3], ids[1:3, 3], ids[4, 4] = 1, 255, 2
    write_image('VOC2012/JPEGImages/x.jpg', IMAGE)
    write_image('VOC2012/JPEGImages/without.jpg', IMAGE)
    write_image('VOC2012/SegmentationObject/x.png', ids)
    matlab = pytest.importorskip('scipy.io')
    write_image('SBD/dataset/img/y.jpg', IMAGE)
    (tmp_path / 'SBD/dataset/inst').mkdir()
    content = {'GTinst': {'Segmentation': ids % 255, 'Categories': [3, 5]}}
    matlab.savemat(tmp_path / 'SBD/dataset/inst/y.mat', content)
    found = read_stills(tmp_path / 'VOC2012', tmp_path / 'SBD')
    assert list(found) == ['SBD-y', 'VOC2012-x']
    np.testing.assert_array_equal(found['VOC2012-x'][0], ids)
    np.testing.assert_array_equal(found['SBD-y'][0], ids % 255)


@pytest.fixture
def coco(tmp_path, write_image):
    """Root of a COCO of one image: a large polygon, a small one over it, runs, and a crowd."""
    write_image('coco/train2017/000000000009.jpg', IMAGE)
    annotations = [
        {'area': 4, 'category_id': 2, 'segmentation': [[2, 2, 3, 2, 3, 3, 2, 3]]},
        {'area': 20, 'category_id': 1, 'segmentation': [[1, 1, 5, 1, 5, 4, 1, 4]]},
        # Column by column: the whole last column (42 pixels before it), then nothing.
        {'area': 6, 'category_id': 1, 'segmentation': {'counts': [42, 6], 'size': [6, 8]}},
        {'area': 9, 'iscrowd': 1, 'segmentation': {'counts': [5, 1, 42], 'size': [6, 8]}},
    ]
    content = {
        'images': [{'id': 9, 'file_name': '000000000009.jpg', 'height': 6, 'width': 8}],
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}],
        'annotations': [{'image_id': 9, 'iscrowd': 0} | item for item in annotations],
    }
    (tmp_path / 'coco/annotations').mkdir()
    for name in ('instances_train2017', 'instances_val2017', 'captions_train2017'):
        (tmp_path / f'coco/annotations/{name}.json').write_text(json.dumps(content))
    return tmp_path / 'coco'


def test_coco_draws_small_objects_over_large_ones(coco):
    labels, objects = read_stills(coco)['coco-000000000009']
    np.testing.assert_array_equal(
        labels,
        [
            [0, 0, 0, 0, 0, 0, 0, 2],
            [0, 1, 1, 1, 1, 1, 0, 2],
            [0, 1, 3, 3, 1, 1, 0, 2],
            [0, 1, 3, 3, 1, 1, 0, 2],
            [0, 1, 1, 1, 1, 1, 0, 2],
            [255, 0, 0, 0, 0, 0, 0, 2],
        ],
    )
    assert [(item['id'], item['category']) for item in objects] == [
        (1, 'cat'),
        (2, 'cat'),
        (3, 'dog'),
    ]


def test_an_image_that_coco_names_and_lacks_is_named(coco):
    (coco / 'train2017/000000000009.jpg').rename(coco / 'train2017/1.jpg')
    with pytest.raises(InputError, match=r'000000000009\.jpg: this image is missing'):
        read_stills(coco)


def encode_counts(counts):
    """The other direction of `read_counts`, as COCO's description has it."""
    text = ''
    for i, count in enumerate(counts):
        value, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            code, value = value & 31, value >> 5
            more = value != (-1 if code & 16 else 0)
            text += chr(code + 48 + (32 if more else 0))
    return text


def test_run_lengths_as_text():
    for counts in ([42, 6], [0, 3, 1000, 70_000, 2, 5, 31, 16], [7]):
        assert read_counts(encode_counts(counts)) == counts
