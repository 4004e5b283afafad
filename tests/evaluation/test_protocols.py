import shutil

import numpy as np
import pytest
from PIL import Image

from vos_jax.errors import InputError
from vos_jax.evaluation import protocols


def test_davis2017_scores_all_but_the_first_and_the_last_frame(make_davis, draw):
    root = make_davis({'dog': draw(5, ids=(1, 2))})
    (task,) = protocols.load('davis2017', root).tasks
    assert task.scored == {'00001': (1, 2), '00002': (1, 2), '00003': (1, 2)}
    assert task.sequence.given == ('00000',)
    assert len(task.sequence.required) == 5


def test_objects_are_all_ids_up_to_the_largest_of_the_first_annotation(make_davis, draw):
    labels = draw(4, ids=(1, 3))
    labels[2:, -3:, -3:] = 4  # appears later: not scored
    (task,) = protocols.load('davis2017', make_davis({'dog': labels})).tasks
    assert task.ids == (1, 2, 3)


def test_davis2016_merges_all_ids_and_leaves_void_out(make_davis, draw):
    labels = draw(4, ids=(1, 2))
    labels[:, -5:] = 255
    (task,) = protocols.load('davis2016', make_davis({'dog': labels})).tasks
    truth = task.read_truth('00001')
    assert task.ids == (1,)
    np.testing.assert_array_equal(truth, (labels[1] > 0) & (labels[1] < 255))


def test_davis2016_takes_annotations_of_0_and_255(make_davis, draw):
    root = make_davis({'dog': draw(4)})
    for path in (root / 'Annotations/480p/dog').iterdir():
        Image.fromarray(np.array(Image.open(path)) * 255).save(path)
    for need_frames in (True, False):
        (task,) = protocols.load('davis2016', root, need_frames=need_frames).tasks
        assert task.read_truth('00001').sum() == 100
        assert task.read_given('00000').max() == 1


def test_annotations_alone_are_enough_to_score(make_davis, draw):
    root = make_davis({'dog': draw(5)}, with_frames=False)
    (task,) = protocols.load('davis2017', root, need_frames=False).tasks
    assert task.sequence.size == (48, 64)
    assert len(task.scored) == 3


def test_without_annotations_nothing_is_scored(make_davis, draw):
    root = make_davis({'dog': draw(5)}, split='test-dev')
    for path in (root / 'Annotations/480p/dog').glob('0000[1-9].png'):
        path.unlink()
    protocol = protocols.load('davis2017', root, 'test-dev')
    assert not protocol.is_scored
    assert protocol.tasks[0].sequence.required == tuple(f'{t:05d}' for t in range(5))


def test_a_missing_annotation_is_named(make_davis, draw):
    root = make_davis({'dog': draw(5)})
    (root / 'Annotations/480p/dog/00002.png').unlink()
    with pytest.raises(InputError, match=r'dog/00002\.png: this annotation is missing'):
        protocols.load('davis2017', root)


@pytest.mark.parametrize('with_frames', [True, False])
@pytest.mark.parametrize('frame', ['00000', '00002'])
def test_a_missing_annotation_is_named_when_masks_are_scored(make_davis, draw, frame, with_frames):
    root = make_davis({'dog': draw(5)}, with_frames)
    (root / f'Annotations/480p/dog/{frame}.png').unlink()
    if frame == '00000' and not with_frames:  # nothing tells that the numbers began at 0
        assert len(protocols.load('davis2017', root, need_frames=False).tasks[0].scored) == 2
        return
    with pytest.raises(InputError, match=rf'dog/{frame}\.png: this (annotation|mask) is missing'):
        protocols.load('davis2017', root, need_frames=False)


def test_test_dev_needs_all_frames_when_masks_are_packed(make_davis, draw):
    root = make_davis({'dog': draw(5)}, split='test-dev')
    for path in (root / 'Annotations/480p/dog').glob('0000[1-9].png'):
        path.unlink()
    (task,) = protocols.load('davis2017', root, 'test-dev', need_frames=False).tasks
    assert task.sequence.required == tuple(f'{t:05d}' for t in range(5))
    shutil.rmtree(root / 'JPEGImages')
    with pytest.raises(InputError, match=r'frames are missing; .* first annotation only'):
        protocols.load('davis2017', root, 'test-dev', need_frames=False)


def test_a_split_that_is_half_annotated_is_refused(make_davis, draw):
    root = make_davis({'dog': draw(4), 'owl': draw(4)})
    for path in (root / 'Annotations/480p/owl').glob('0000[1-9].png'):
        path.unlink()
    with pytest.raises(InputError, match='480p/owl: only the first annotation is here'):
        protocols.load('davis2017', root)


def test_frames_without_leading_zeros_are_in_time_order(make_davis, draw):
    root = make_davis({'dog': draw(12)}, with_frames=False)
    for path in (root / 'Annotations/480p/dog').iterdir():
        path.rename(path.with_name(f'{int(path.stem)}.png'))
    (task,) = protocols.load('davis2017', root, need_frames=False).tasks
    assert list(task.scored) == [str(t) for t in range(1, 11)]


@pytest.mark.parametrize('name', ['davis2017', 'youtube_vos2019'])
def test_a_root_that_is_too_deep_points_to_the_right_one(make_davis, make_youtube, draw, name):
    if name == 'davis2017':
        root, inner = make_davis({'dog': draw(4)}), 'Annotations'
    else:
        root, inner = make_youtube({'a': (draw(4), {1: 0})}), 'valid'
    with pytest.raises(InputError, match=rf'did you mean {root}\?'):
        protocols.load(name, root / inner, need_frames=False)


def test_two_frames_are_too_few(make_davis, draw):
    with pytest.raises(InputError, match='at least 3'):
        protocols.load('davis2017', make_davis({'dog': draw(2)}))


def test_a_missing_list_names_those_that_are_there(make_davis, draw):
    root = make_davis({'dog': draw(4)})
    with pytest.raises(InputError, match=r'test\.txt: this list is missing.*2017/val\.txt'):
        protocols.load('davis2017', root, 'test', need_frames=False)


@pytest.mark.parametrize(('dense', 'mode'), [(False, 'sparse'), (True, 'dense')])
def test_youtube_vos_names_its_frame_rate(make_youtube, draw, dense, mode):
    root = make_youtube({'a': (draw(4), {1: 0})})
    if dense:
        (root / 'valid').rename(root / 'valid_all_frames')
        make_youtube({'a': (draw(4), {1: 0})})
    protocol = protocols.load('youtube_vos2019', root, dense=dense)
    assert protocol.label == f'youtube_vos2019-valid-{mode}'
    assert not protocol.is_scored


def test_late_objects_of_youtube_vos_are_given_when_they_appear(make_youtube, draw):
    root = make_youtube({'a': (draw(6, ids=(2, 5)), {5: 1, 2: 3})})
    (task,) = protocols.load('youtube_vos2018', root).tasks
    assert task.ids == (2, 5)
    assert task.sequence.given == ('00005', '00015')
    assert set(np.unique(task.read_given('00015'))) == {0, 2}
    assert task.sequence.required == ('00005', '00010', '00015', '00020', '00025')


def test_local_hold_out_scores_each_object_after_its_first_frame(make_youtube, draw, tmp_path):
    root = make_youtube(
        {'a': (draw(5, ids=(1, 2)), {1: 0, 2: 2}), 'b': (draw(4), {1: 0})},
        split='train',
        given_only=False,
        categories={'a': {1: 'dog', 2: 'cat'}, 'b': {1: 'dog'}},
    )
    (tmp_path / 'videos.txt').write_text('a\n')
    (tmp_path / 'unseen.txt').write_text('cat\n')
    protocol = protocols.load(
        'youtube_vos_local',
        root,
        videos=tmp_path / 'videos.txt',
        unseen=tmp_path / 'unseen.txt',
    )
    (task,) = protocol.tasks
    assert task.scored == {'00005': (1,), '00010': (1,), '00015': (1, 2), '00020': (1, 2)}
    assert task.groups == {1: 'seen', 2: 'unseen'}
    (tmp_path / 'unseen.txt').write_text('cats\n')
    with pytest.raises(InputError, match=r'cats is no category .* \(did you mean cat\?\)'):
        protocols.load('youtube_vos_local', root, unseen=tmp_path / 'unseen.txt')


def test_annotations_alone_are_enough_to_score_youtube_vos(make_youtube, draw):
    videos = {'a': (draw(5, ids=(1, 2)), {1: 0, 2: 2})}
    root = make_youtube(videos, split='train', given_only=False)
    with_frames = protocols.load('youtube_vos_local', root).tasks[0]
    shutil.rmtree(root / 'train/JPEGImages')
    (task,) = protocols.load('youtube_vos_local', root, need_frames=False).tasks
    assert task.scored == with_frames.scored
    assert task.sequence.given == with_frames.sequence.given
    assert task.sequence.required == with_frames.sequence.required
    np.testing.assert_array_equal(task.read_truth('00010'), videos['a'][0][2])


def test_local_hold_out_refuses_unknown_videos(make_youtube, draw, tmp_path):
    root = make_youtube({'a': (draw(4), {1: 0})}, split='train', given_only=False)
    (tmp_path / 'videos.txt').write_text('z\n')
    with pytest.raises(InputError, match='video z is not in'):
        protocols.load('youtube_vos_local', root, videos=tmp_path / 'videos.txt')


def test_unseen_categories_need_categories(make_youtube, draw, tmp_path):
    root = make_youtube({'a': (draw(4), {1: 0})}, split='train', given_only=False)
    (tmp_path / 'unseen.txt').write_text('cat\n')
    with pytest.raises(InputError, match='without a category'):
        protocols.load('youtube_vos_local', root, unseen=tmp_path / 'unseen.txt')
