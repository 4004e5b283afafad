"""Data sets as people have them: preparing reads what evaluation and training read, or refuses."""

import contextlib
import functools
import itertools
import json
import re
import tarfile
import unicodedata
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import check as check_command
from data_prep.builders import DATA_SETS
from data_prep.builders.files import FileTree
from data_prep.builders.videos import read_video
from data_prep.prepare import list_videos
from vos_jax.data import frames as frame_files
from vos_jax.data import layouts, masks
from vos_jax.errors import InputError
from vos_jax.evaluation import protocols


def prepared(name, root, split):
    """{video: (frame names, frames, {frame: mask})} of what would be written."""
    videos = list_videos(DATA_SETS[name], [FileTree([root])], (split,), {})[split]
    found = {}
    for video in videos:
        example, labels = read_video(video)
        frames = [frame_files.decode_frame(f, '', upright=False) for f in example['frames']]
        found[video.name] = tuple(example['frame_names']), frames, labels
    return found


def listed_of(sequences):
    """The same of sequences as evaluation and training read them."""
    return {
        s.name: (
            s.stems,
            [s.read_frame(i) for i in range(s.num_frames)],
            {stem: s.read_labels(stem) for stem in s.stems if stem in s.masks},
        )
        for s in sequences
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, (stems, frames, labels) in one.items():
        assert stems == other[name][0]
        assert list(labels) == list(other[name][2])
        for left, right in itertools.chain(
            zip(frames, other[name][1]), zip(labels.values(), other[name][2].values())
        ):
            np.testing.assert_array_equal(left, right)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def white_first(path, mask):
    """Saves a mask by a palette whose first colour is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray((mask == 0).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(path)


def with_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {'exif': exif}


NAMES = st.sampled_from(['a', 'b', 'x/a', 'x/b', 'dog walk', 'größe', 'A', '1'])
STEMS = st.sampled_from(
    [
        ('00000', '00001', '00002', '00003'),
        ('8', '9', '10', '11'),
        ('1.0', '1.25', '1.5', '10'),
        ('-2', '-1', '0', '1'),
        ('f9', 'f10', 'f11', 'f12'),
        ('5', '00005', '6', '7'),
        ('t1.25', 't1.5', 't2', 't3'),
        ('a²', 'b', 'c', '①'),
    ]
)
FORMS = ['ids', 'binary', 'one bit', 'some one bit', 'white first', 'some white first']
LEFT_BEHIND = st.sets(st.sampled_from(['.DS_Store', '._00000.png', '.ipynb_checkpoints/1.png']))


@st.composite
def trees(draw):
    """How a data set is stored: plain values."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    return {
        'videos': {name: draw(STEMS) for name in names},
        'suffix': draw(st.sampled_from(['.jpg', '.JPG', '.png', '.jpeg', '.webp'])),
        'orientation': draw(st.sampled_from([1, 1, 3, 6, 8])),
        'masks': draw(st.sampled_from(['upright', 'stored'])),
        'form': draw(st.sampled_from(FORMS)),
        'encoding': draw(st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16'])),
        'left': draw(LEFT_BEHIND),
        'twice': draw(st.booleans()) and draw(st.booleans()),
        'empty': draw(st.booleans()) and draw(st.booleans()),
        'link': draw(st.booleans()),
    }


def plant(root, tree):
    """Writes a data set in the layout of DAVIS."""
    rng = np.random.default_rng(0)
    size = (16, 24) if tree['masks'] == 'stored' or tree['orientation'] < 5 else (24, 16)
    for name, stems in tree['videos'].items():
        folder = root / 'JPEGImages/480p' / name
        for number, stem in enumerate(stems):
            frame = np.kron(rng.integers(0, 255, (2, 3, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
            save(folder / f'{stem}{tree["suffix"]}', frame, **with_exif(tree['orientation']))
            mask = np.zeros(size, np.uint8)
            mask[2 + number : 9 + number, 3:10] = 0 if tree['empty'] and not number else 1
            path = root / 'Annotations/480p' / name / f'{stem}.png'
            is_whole = number % 2 == 0 or 'some' not in tree['form']
            if 'one bit' in tree['form'] and is_whole:
                save(path, mask > 0)
            elif 'white first' in tree['form'] and is_whole:
                white_first(path, mask)
            else:
                save(path, mask if tree['form'] == 'ids' else mask * 255)
        for left in tree['left']:
            (folder / left).parent.mkdir(exist_ok=True)
            (folder / left).write_bytes(b'x')
        if tree['twice']:
            save(folder / f'{stems[0]}.bmp', frame)
            save(folder / f'{stems[0]}{".png" if tree["suffix"] != ".png" else ".jpg"}', frame)
    if tree['link']:
        (root / 'JPEGImages').rename(root / 'elsewhere')
        (root / 'JPEGImages').symlink_to('elsewhere')
    text = ''.join(f'{name}\n' for name in tree['videos'])
    for year in ('2016', '2017'):
        (root / 'ImageSets' / year).mkdir(parents=True)
        (root / 'ImageSets' / year / 'train.txt').write_bytes(text.encode(tree['encoding']))


def outcome(read):
    """What a command reads, or None where it refuses in one line."""
    with contextlib.suppress(InputError):
        return read()
    return None


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)
@given(tree=trees(), year=st.sampled_from(['2016', '2017']))
def test_all_commands_see_the_same(tmp_path_factory, tree, year):
    root = tmp_path_factory.mktemp('tree')
    plant(root, tree)
    trained = outcome(lambda: listed_of(layouts.require_masks(layouts.davis(root, 'train', year))))
    made = outcome(lambda: prepared(f'davis{year}', root, 'train'))
    assert (trained is None) == (made is None)
    if trained is None:
        return
    assert_same(trained, made)
    load = functools.partial(protocols.load, f'davis{year}', root, 'train')
    evaluated = [outcome(lambda: load()), outcome(lambda: load(need_frames=False))]
    if tree['empty']:
        assert evaluated == [None, None]
        return
    for protocol in evaluated:
        seen = listed_of(task.sequence for task in protocol.tasks)
        assert_same(trained, seen)
        assert all(task.ids == (1,) for task in protocol.tasks)


def set_in_numbers(root, stems=('00000', '00001', '00002')):
    plant(root, TREE | {'videos': {'a': stems}})
    return root


TREE = {
    'videos': {'a': ('00000', '00001', '00002')},
    'suffix': '.jpg',
    'orientation': 1,
    'masks': 'upright',
    'form': 'ids',
    'encoding': 'utf-8',
    'left': (),
    'twice': False,
    'empty': False,
    'link': False,
}


def problems_of(root, name='davis2017'):
    found = check_command.check(DATA_SETS[name], [str(root)], splits=('train',))
    return found['train'].problems


def test_each_problem_says_who_minds():
    who = check_command.who_minds
    assert who('a: unreadable frame (cut)') == 'evaluation, preparing and training refuse it'
    assert 'davis_sparse' in who('a/1.png: this mask is missing (1 of 3 that are needed)')
    assert who('train: 3 videos, published are 60') == ''


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({'twice': True}, 'differ only in their suffix'),
        ({'videos': {'a': ('5', '00005', '6')}}, '00005 and 5 have the same number'),
        ({'videos': {'a': ('t1.25', 't1.5', 't2')}}, 'come in another order'),
        ({'form': 'binary'}, 'only 0 and 255'),
        ({'empty': True}, r'00000\.png: no object in it, though'),
    ],
)
def test_check_reports_what_commands_refuse(tmp_path, change, told):
    plant(tmp_path, TREE | change)
    problems = problems_of(tmp_path)
    assert sum(bool(re.search(told, problem)) for problem in problems) == 1


def test_check_reports_links_and_lost_masks(tmp_path):
    root = set_in_numbers(tmp_path)
    (root / 'Annotations/480p/a/00001.png').unlink()
    frame = root / 'JPEGImages/480p/a/00002.jpg'
    frame.unlink()
    frame.symlink_to('/nowhere.jpg')
    problems = '\n'.join(problems_of(root))
    assert 'link to /nowhere.jpg, which is missing' in problems
    assert 'a/00001.png: this mask is missing (1 of 3' in problems
    with pytest.raises(InputError, match='mask is missing'):
        prepared('davis2017', root, 'train')


def turned_set(root, videos, listed):
    """Videos of one frame by name: (orientation, size of its mask), over portraits or squares."""
    for name, (orientation, size) in videos.items():
        ramp = np.linspace(0, 255, 24 * 24, dtype=np.uint8).reshape(24, 24)[
            : 16 + 8 * (size is None)
        ]
        image = np.stack([ramp] * 3, axis=-1)
        save(root / 'JPEGImages/480p' / name / '0.jpg', image, **with_exif(orientation))
        mask = np.zeros(size or (24, 24), np.uint8)
        mask[:5, :7] = 1
        save(root / 'Annotations/480p' / name / '0.png', mask)
    (root / 'ImageSets/2017').mkdir(parents=True)
    (root / 'ImageSets/2017/train.txt').write_text('\n'.join(listed))


STORED, UPRIGHT, SQUARE = (6, (16, 24)), (6, (24, 16)), (3, None)


@pytest.mark.parametrize(('rest', 'is_turned'), [(STORED, False), (UPRIGHT, True)])
@pytest.mark.parametrize('listed', [['square'], ['square', 'rest'], ['rest']])
def test_frames_whose_size_does_not_tell_lie_as_the_rest_of_the_set(
    tmp_path, rest, is_turned, listed
):
    plain = {f'plain{i}': (1, (16, 24)) for i in range(70)}
    turned_set(tmp_path, plain | {'rest': rest, 'square': SQUARE, 'x/a': (1, None)}, listed)
    found = layouts.davis(tmp_path, 'train')
    assert [sequence.upright for sequence in found] == [is_turned] * len(listed)
    made = prepared('davis2017', tmp_path, 'train')
    assert_same(listed_of(found), made)
    tasks = protocols.annotations.list_davis(tmp_path, 'train', '2017', None)
    assert_same(listed_of(tasks), made)


def test_a_set_with_masks_of_both_kinds_is_read_by_sequence_or_refused(tmp_path):
    turned_set(tmp_path, {'s': STORED, 'u': UPRIGHT, 'square': SQUARE}, ['s', 'u'])
    found = layouts.davis(tmp_path, 'train')
    assert [sequence.upright for sequence in found] == [False, True]
    assert_same(listed_of(found), prepared('davis2017', tmp_path, 'train'))
    (tmp_path / 'ImageSets/2017/train.txt').write_text('square\ns')
    for read in (layouts.davis, lambda *_: prepared('davis2017', *_)):
        with pytest.raises(
            InputError, match=r'square/0\.png: EXIF turns.*save these frames without'
        ):
            read(tmp_path, 'train')
    told = 'square/0.png: EXIF turns the frames'
    assert sum(told in problem for problem in problems_of(tmp_path)) == 1


@pytest.mark.parametrize('unseen', ['\u200b', '\x1a'])
def test_check_lists_what_is_wrong_with_names(tmp_path, unseen):
    plant(tmp_path, TREE | {'videos': {'a dog': ('0', '1')}})
    (tmp_path / 'ImageSets/2017/train.txt').write_text(f'a d{unseen}og\na dog\nowl')
    (tmp_path / 'JPEGImages/480p/owl').symlink_to('gone')
    (tmp_path / 'ImageSets/2017/val.txt').write_bytes('hünd'.encode('latin-1'))
    found = check_command.check(DATA_SETS['davis2017'], [str(tmp_path)])
    assert len(found['val'].problems) == 1
    assert 'val.txt: no UTF-8 text' in found['val'].problems[0]
    problems = '\n'.join(found['train'].problems)
    assert f'a d{ascii(unseen)[1:-1]}og: no frames in it (did you mean a dog?)' in problems
    assert 'owl: link to gone, which is missing' in problems


def test_an_archive_of_another_system(tmp_path):
    plant(tmp_path / 'set', TREE)
    with zipfile.ZipFile(tmp_path / 'SET.ZIP', 'w') as archive:
        for path in (p for p in (tmp_path / 'set').rglob('*') if p.is_file()):
            info = zipfile.ZipInfo()
            info.filename = str(path.relative_to(tmp_path)).replace('/', '\\')
            archive.writestr(info, path.read_bytes())
    made = [prepared('davis2017', tmp_path / name, 'train') for name in ('set', 'SET.ZIP')]
    assert_same(*made)


def test_links_in_archives_are_refused(tmp_path):
    with tarfile.open(tmp_path / 'set.tar', 'w') as archive:
        info = tarfile.TarInfo('JPEGImages/480p/a/00000.jpg')
        info.type, info.linkname = tarfile.SYMTYPE, '../b/00000.jpg'
        archive.addfile(info)
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as archive:
        info = zipfile.ZipInfo('JPEGImages')
        info.external_attr = 0o120777 << 16
        archive.writestr(info, 'elsewhere')
    for name in ('set.tar', 'set.zip'):
        with pytest.raises(InputError, match=rf'{name}: JPEGImages.* is a link; unpack'):
            FileTree([tmp_path / name])


@pytest.mark.parametrize('one_bit', ['a', 'b', 'ab'])
def test_photographs_with_masks_of_one_bit_among_0_and_255(tmp_path, one_bit):
    mask = np.zeros((16, 24), np.uint8)
    mask[3:9, 4:12] = 255
    for name in ('a', 'b', 'c'):
        save(tmp_path / 'ECSSD/images' / f'{name}.jpg', np.full((16, 24, 3), 90, np.uint8))
        save(tmp_path / f'ECSSD/mask/{name}.png', mask > 0 if name in one_bit else mask)
    videos = list_videos(DATA_SETS['static_images'], [FileTree([tmp_path / 'ECSSD'])], (), {})
    for video in videos['train']:
        (labels,) = read_video(video)[1].values()
        np.testing.assert_array_equal(labels, mask > 0)


@pytest.mark.parametrize('folder', ['images_small', 'zedges', 'mask_edges'])
def test_photographs_that_are_there_twice_are_refused(tmp_path, folder):
    for name in ('images/a.jpg', 'mask/a.png', f'{folder}/a.png'):
        save(tmp_path / 'ECSSD' / name, np.zeros((16, 24), np.uint8))
    with pytest.raises(InputError, match=r'a\.png: .*a\.(jpg|png) has this name too'):
        list_videos(DATA_SETS['static_images'], [FileTree([tmp_path / 'ECSSD'])], (), {})


@pytest.mark.parametrize('number', [0, 1])
def test_photographs_with_masks_of_black_and_white_alone(tmp_path, number):
    """Their palette says which number is white."""
    mask = np.zeros((16, 24), np.uint8)
    mask[3:9, 4:12] = 1
    image = Image.fromarray(mask if number else 1 - mask)
    image.putpalette([0, 0, 0, 255, 255, 255] if number else [255, 255, 255, 0, 0, 0])
    (tmp_path / 'ECSSD/mask').mkdir(parents=True)
    image.save(tmp_path / 'ECSSD/mask/a.png')
    save(tmp_path / 'ECSSD/images/a.jpg', np.full((16, 24, 3), 90, np.uint8))
    (video,) = list_videos(DATA_SETS['static_images'], [FileTree([tmp_path / 'ECSSD'])], (), {})[
        'train'
    ]
    np.testing.assert_array_equal(read_video(video)[1]['a'], mask)


def test_meta_json_in_other_words_is_prepared_alike(youtube_vos):
    expected = prepared('youtube_vos2018', youtube_vos, 'train')
    objects = [
        {'id': 5, 'category': 'cat', 'frames': [10, 15]},
        {'id': '1', 'category': 'dog', 'frames': [0, '5', '00010', 15]},
    ]
    text = json.dumps({'videos': {'v': {'objects': objects}}})
    (youtube_vos / 'train/meta.json').write_bytes(text.encode('utf-16'))
    assert_same(expected, prepared('youtube_vos2018', youtube_vos, 'train'))
    assert_same(expected, listed_of(layouts.youtube_vos(youtube_vos, 'train')))
    (video,) = layouts.youtube_vos(youtube_vos, 'train')
    assert video.first_ids == {'00000': (1,), '00010': (5,)}


def test_turned_frames_are_stored_as_they_are_seen(tmp_path):
    plant(tmp_path, TREE | {'orientation': 6})
    videos = list_videos(DATA_SETS['davis2017'], [FileTree([tmp_path])], ('train',), {})['train']
    example, labels = read_video(videos[0])
    assert (example['height'], example['width']) == (24, 16) == labels['00000'].shape
    assert all(data[1:4] == b'PNG' for data in example['frames'])
    assert masks.object_ids(labels['00000']).tolist() == [1]


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_letters_may_be_composed_in_another_way_than_listed(tmp_path, form):
    listed, other = (unicodedata.normalize(one, 'größe') for one in (form, 'NFD'))
    plant(tmp_path, TREE | {'videos': {other: ('0', '1', '2')}})
    (tmp_path / 'ImageSets/2017/train.txt').write_text(listed)
    made = prepared('davis2017', tmp_path, 'train')
    assert made.keys() == {listed}
    assert_same(made, listed_of(layouts.davis(tmp_path, 'train')))
    tasks = protocols.load('davis2017', tmp_path, 'train', need_frames=False).tasks
    assert [task.name for task in tasks] == [listed]


@st.composite
def metas(draw):
    """meta.json of one video of five frames in one of the forms that people write: plain values."""
    stems = draw(st.sampled_from([('00000', '00005', '00010', '00015', '00020'), tuple('01234')]))
    as_number, as_list = draw(st.booleans()), draw(st.booleans())
    objects = {}
    for object_id in draw(st.sets(st.integers(0, 256), min_size=1, max_size=3)):
        frames = stems[draw(st.integers(0, 4)) :]
        frames = [int(stem) for stem in frames] if as_number else list(frames)
        objects[object_id] = {'frames': draw(st.permutations(frames))}
    if as_list:
        listed = [{'id': i if as_number else str(i)} | fields for i, fields in objects.items()]
    else:
        listed = {str(i): fields for i, fields in objects.items()}
    return stems, objects, {'videos': {draw(NAMES): {'objects': listed}}}


@settings(max_examples=40, deadline=None, print_blob=True)
@given(meta=metas(), encoding=st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16']))
def test_all_commands_see_the_same_objects_of_youtube_vos(tmp_path_factory, meta, encoding):
    root = tmp_path_factory.mktemp('tree')
    stems, objects, values = meta
    (name,) = values['videos']
    for number, stem in enumerate(stems):
        mask = np.zeros((16, 24), np.uint8)
        for row, (object_id, fields) in enumerate(objects.items()):
            if int(stem) in map(int, fields['frames']):
                mask[5 * row : 5 * row + 4, number : number + 9] = object_id % 256
        save(root / 'train/JPEGImages' / name / f'{stem}.png', np.stack([mask] * 3, axis=-1))
        save(root / 'train/Annotations' / name / f'{stem}.png', mask)
    (root / 'train/meta.json').write_bytes(json.dumps(values, ensure_ascii=False).encode(encoding))
    made = outcome(lambda: prepared('youtube_vos2018', root, 'train'))
    trained = outcome(lambda: layouts.youtube_vos(root, 'train'))
    load = functools.partial(protocols.load, 'youtube_vos_local', root)
    evaluated = [outcome(lambda: load()), outcome(lambda: load(need_frames=False))]
    if not set(objects) <= set(range(1, 255)):
        assert [made, trained, *evaluated] == [None] * 4
        return
    assert_same(made, listed_of(trained))
    first = {i: min(map(int, fields['frames'])) for i, fields in objects.items()}
    for protocol in evaluated:
        (task,) = protocol.tasks
        assert (task.name, task.ids) == (name, tuple(sorted(objects)))
        assert {i: int(s) for s, ids in task.sequence.first_ids.items() for i in ids} == first
        for stem, ids in task.scored.items():
            assert set(ids) == {i for i in objects if first[i] < int(stem)}
            np.testing.assert_array_equal(task.read_truth(stem), made[name][2][stem])
