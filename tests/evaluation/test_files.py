"""Data sets and results as people have them: what is scored is what they mean, or refused."""

import csv
import functools
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from vos_jax.config.read import read
from vos_jax.config.schema import EvaluationSpec
from vos_jax.data import masks
from vos_jax.errors import InputError
from vos_jax.evaluation import output_files, protocols, results
from vos_jax.evaluation.heldout import HeldOut
from vos_jax.evaluation.predictions import open_results
from vos_jax.evaluation.scoring import score_task


def score(protocol, folder, **options):
    """Mean J of each sequence by its name."""
    predictions = open_results(folder, **options)
    predictions.check(protocol)
    return {task.name: score_task(task, predictions).scores.J.mean() for task in protocol.tasks}


def convert(paths, change):
    """Stores images anew: `change` of an array gives an array or image."""
    for path in paths:
        image = change(np.array(Image.open(path)))
        (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path)


@pytest.mark.parametrize('with_frames', [True, False])
@pytest.mark.parametrize('one_bit', ['dog/00000.png', '*/00000.png', 'owl/*.png', '*/0000[01].png'])
def test_one_bit_masks_among_those_of_0_and_255_show_the_object(
    make_davis, draw, save_masks, tmp_path, one_bit, with_frames
):
    root = make_davis({'dog': draw(5), 'owl': draw(5)}, with_frames)
    folder = root / 'Annotations/480p'
    convert(folder.glob('*/*.png'), lambda mask: mask * 255)
    convert(folder.glob(one_bit), lambda mask: mask > 0)
    for name in ('dog', 'owl'):
        save_masks(tmp_path / 'out' / name, draw(5))
    protocol = protocols.load('davis2016', root, need_frames=with_frames)
    assert score(protocol, tmp_path / 'out') == {'dog': 1, 'owl': 1}


def white_first(mask):
    """Stored in 1 bit by a palette whose first colour is white: the object has the number 0."""
    image = Image.fromarray((mask == 0).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


@pytest.mark.parametrize('with_frames', [True, False])
@pytest.mark.parametrize('white', ['*/*.png', 'owl/*.png', '*/00002.png'])
def test_white_is_the_object_whatever_its_number(
    make_davis, draw, save_masks, tmp_path, white, with_frames
):
    root = make_davis({'dog': draw(5), 'owl': draw(5)}, with_frames)
    folder = root / 'Annotations/480p'
    convert(folder.glob('*/*.png'), lambda mask: mask > 0)
    convert(folder.glob(white), white_first)
    for name in ('dog', 'owl'):
        save_masks(tmp_path / 'out' / name, draw(5))
    protocol = protocols.load('davis2016', root, need_frames=with_frames)
    assert score(protocol, tmp_path / 'out') == {'dog': 1, 'owl': 1}
    with pytest.raises(InputError, match=r'only 0 and 255.*--protocol=davis2016|binary'):
        protocols.load('davis2017', root, need_frames=with_frames)


def test_numbers_that_mean_other_ids_than_their_colours_are_refused(
    make_davis, draw, save_masks, tmp_path
):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(5, ids=(1, 2))}))
    save_masks(tmp_path / 'out/dog', draw(5, ids=(1, 2)))
    last = Image.open(tmp_path / 'out/dog/00003.png').convert('RGB')
    last.quantize(colors=3, dither=Image.Dither.NONE).save(tmp_path / 'out/dog/00003.png')
    with pytest.raises(InputError, match=r'00003\.png: its palette is re-sorted.*--form=rgb'):
        score(protocol, tmp_path / 'out')
    assert score(protocol, tmp_path / 'out', form='rgb') == {'dog': 1}
    convert([tmp_path / 'out/dog/00003.png'], lambda mask: white_first(mask == mask[0, 0]))
    with pytest.raises(InputError, match=r'00003\.png: black is not 0 .*--form=binary'):
        score(protocol, tmp_path / 'out')


@pytest.mark.parametrize('name', ['davis2016', 'davis2017'])
def test_masks_of_0_and_255_among_ids_of_one_object_are_refused(
    make_davis, draw, save_masks, tmp_path, name
):
    root = make_davis({'dog': draw(5)})
    convert([root / 'Annotations/480p/dog/00002.png'], lambda mask: mask * 255)
    save_masks(tmp_path / 'out/dog', draw(5))
    protocol = protocols.load(name, root)
    with pytest.raises(InputError, match=r'dog/00002\.png: only 0 and 255 .* here.*ids in'):
        score(protocol, tmp_path / 'out')


def test_one_bit_results_among_those_of_0_and_255(make_davis, draw, save_masks, tmp_path):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(5)}))
    save_masks(tmp_path / 'out/dog', draw(5) * 255)
    convert([tmp_path / 'out/dog/00002.png'], lambda mask: mask > 0)
    assert score(protocol, tmp_path / 'out', form='binary') == {'dog': 1}


@pytest.mark.parametrize('layout', ['davis', 'youtube'])
def test_the_listed_name_is_the_name_everywhere(
    make_davis, make_youtube, draw, save_masks, tmp_path, layout
):
    masks_of = {'x/a': draw(5), 'y/a': draw(5, speed=4)}
    if layout == 'davis':
        protocol = protocols.load('davis2017', make_davis(masks_of))
    else:
        videos = {name: (labels, {1: 0}) for name, labels in masks_of.items()}
        root = make_youtube(videos, split='train', given_only=False)
        protocol = protocols.load('youtube_vos_local', root)
    step = 1 if layout == 'davis' else 5
    for name, labels in masks_of.items():
        save_masks(tmp_path / 'out' / name, labels, step=step)
    wrong = draw(5) * 0
    save_masks(tmp_path / 'out/y/a', wrong, step=step)
    assert protocol.mode in ('480p', 'sparse')
    assert score(protocol, tmp_path / 'out') == {'x/a': 1, 'y/a': 0}
    output_files.score_results(
        protocol, open_results(tmp_path / 'out'), tmp_path / 's', zipped=True
    )
    stored = results.read(tmp_path / 's')
    assert [one.name for one in stored.sequences] == ['x/a', 'y/a']
    with open(tmp_path / 's' / f'per-sequence_results-{protocol.split}.csv') as file:
        assert [row[0] for row in csv.reader(file)][1:] == ['x/a_1', 'y/a_1']
    with zipfile.ZipFile(tmp_path / 's' / f'{protocol.label}.zip') as archive:
        names = archive.namelist()
    assert f'{protocol.folder_in_zip}x/a/00000.png' in names
    assert len(names) == 10
    assert (tmp_path / 's/report/pictures/prediction/y/a').is_dir()


@pytest.mark.parametrize('protocol', ['davis2017', 'davis2016', 'davis_sparse'])
def test_a_frame_that_is_there_in_two_forms_is_refused(make_davis, draw, protocol):
    root = make_davis({'dog': draw(5)})
    Image.new('RGB', (64, 48)).save(root / 'JPEGImages/480p/dog/00002.png')
    for need_frames in (True, False):
        with pytest.raises(InputError, match=r'00002\.jpg and 00002\.png differ only'):
            protocols.load(protocol, root, need_frames=need_frames)


def sparse(root, kept=(0, 2, 6, 9)):
    for path in (root / 'Annotations/480p').glob('*/*.png'):
        if int(path.stem) not in kept:
            path.unlink()


@pytest.mark.parametrize('with_frames', [True, False])
def test_sparse_annotations_are_scored_and_said(
    make_davis, draw, save_masks, tmp_path, with_frames
):
    root = make_davis({'dog': draw(10, ids=(1, 2))}, with_frames)
    sparse(root)
    for name in protocols.DAVIS[:2]:
        with pytest.raises(InputError, match=r'annotation is missing.*--protocol=davis_sparse'):
            protocols.load(name, root, need_frames=with_frames)
    protocol = protocols.load('davis_sparse', root, need_frames=with_frames)
    (task,) = protocol.tasks
    assert list(task.scored) == ['00002', '00006']
    assert len(task.sequence.required) == (10 if with_frames else 4)
    predicted = draw(10, ids=(1, 2))
    predicted[6] = 0
    save_masks(tmp_path / 'out/dog', predicted)
    assert score(protocol, tmp_path / 'out') == {'dog': 0.5}
    output_files.score_results(protocol, open_results(tmp_path / 'out'), tmp_path / 'scores')
    assert '2 annotated frames of' in results.read(tmp_path / 'scores').header['note']
    assert 'annotated frames of' in (tmp_path / 'scores/report/index.html').read_text()


@pytest.mark.parametrize('frames', ['all', 'none', 'another resolution', 'one is lost'])
@pytest.mark.parametrize('name', ['davis2016', 'davis2017'])
def test_annotations_at_regular_steps_are_sparse(make_davis, draw, name, frames):
    root = make_davis({'dog': draw(6)}, with_frames=frames != 'none')
    sparse(root, kept=(0, 2, 4))
    if frames == 'another resolution':
        (root / 'JPEGImages/480p').rename(root / 'JPEGImages/1080p')
    if frames == 'one is lost':
        (root / 'JPEGImages/480p/dog/00004.jpg').unlink()
    with pytest.raises(InputError, match=r'--protocol=davis_sparse'):
        protocols.load(name, root, need_frames=False)


def test_sparse_annotations_must_be_three(make_davis, draw):
    root = make_davis({'dog': draw(10)})
    sparse(root, kept=(0, 5))
    with pytest.raises(InputError, match=r'480p/dog: 2 annotated frames.*at least 3'):
        protocols.load('davis_sparse', root)


@pytest.mark.parametrize('name', protocols.DAVIS)
@pytest.mark.parametrize('need_frames', [True, False])
def test_an_empty_first_annotation_is_blamed_itself(make_davis, draw, name, need_frames):
    labels = draw(6)
    labels[0] = 0
    root = make_davis({'dog': draw(6), 'owl': labels})
    with pytest.raises(InputError, match=r'owl/00000\.png: no object in it.*off the list'):
        protocols.load(name, root, need_frames=need_frames)


def save_objects(folder, labels, ids, name_of=lambda t: f'{t:05d}', folder_of=str):
    for object_id in ids:
        (folder / folder_of(object_id)).mkdir(parents=True, exist_ok=True)
        for t, one in enumerate(labels):
            image = Image.fromarray(((one == object_id) * 255).astype(np.uint8))
            image.save(folder / folder_of(object_id) / f'{name_of(t)}.png')


def test_objects_without_leading_zeros(make_davis, draw, tmp_path):
    labels = draw(13, ids=(1, 2))
    protocol = protocols.load('davis2017', make_davis({'dog': labels}))
    save_objects(tmp_path / 'out/dog', labels, (1, 2), name_of=str)
    assert score(protocol, tmp_path / 'out', form='objects') == {'dog': 1}
    (tmp_path / 'out/dog/2/10.png').unlink()
    with pytest.raises(InputError, match=r'dog/2/00010\.png: this mask is missing'):
        score(protocol, tmp_path / 'out', form='objects')


@pytest.mark.parametrize('lost', ['00001', '00010', '00011'])
def test_a_lost_mask_of_an_object_is_never_an_absent_object(make_davis, draw, tmp_path, lost):
    labels = draw(13, ids=(1, 2))
    protocol = protocols.load('davis2017', make_davis({'dog': labels}))
    save_objects(tmp_path / 'out/dog', labels, (1, 2))
    (tmp_path / f'out/dog/2/{lost}.png').unlink()
    with pytest.raises(InputError, match=rf'dog/2/{lost}\.png: this mask is missing'):
        score(protocol, tmp_path / 'out', form='objects')


def test_the_folder_of_an_object_must_be_there(make_davis, draw, tmp_path):
    labels = draw(5, ids=(1, 3))  # and none for 2, which is no object
    protocol = protocols.load('davis2017', make_davis({'dog': labels}))
    save_objects(tmp_path / 'out/dog', labels, (1, 3))
    assert score(protocol, tmp_path / 'out', form='objects')
    shutil.rmtree(tmp_path / 'out/dog/3')
    with pytest.raises(InputError, match=r'dog/3: the folder of this object is missing'):
        score(protocol, tmp_path / 'out', form='objects')


def test_an_object_needs_no_mask_before_it_is_there(make_youtube, draw, tmp_path):
    labels = draw(5, ids=(1, 2))
    labels[:2] = np.where(labels[:2] == 2, 0, labels[:2])
    root = make_youtube({'a': (labels, {1: 0, 2: 2})}, split='train', given_only=False)
    protocol = protocols.load('youtube_vos_local', root)
    save_objects(tmp_path / 'out/a', labels, (1, 2), name_of=lambda t: f'{5 * t:05d}')
    for stem in ('00000', '00005', '00010'):
        (tmp_path / f'out/a/2/{stem}.png').unlink()
    predictions = open_results(tmp_path / 'out', form='objects')
    predictions.check(protocol)
    assert np.nanmean(score_task(protocol.tasks[0], predictions).scores.J) == 1
    (tmp_path / 'out/a/2/00015.png').unlink()
    with pytest.raises(InputError, match=r'a/2/00015\.png: this mask is missing'):
        predictions.check(protocol)


def test_hidden_files_are_no_objects_and_errors_name_folders_that_exist(make_davis, draw, tmp_path):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(4)}))
    save_objects(tmp_path / 'out/dog', draw(4), (1,), folder_of=lambda i: f'{i:03d}')
    for name in ('.ipynb_checkpoints', '__MACOSX', '@eaDir'):
        (tmp_path / 'out/dog' / name).mkdir()
    (tmp_path / 'out/dog/001/._00001.png').write_bytes(b'x')
    (tmp_path / 'out/dog/.DS_Store').write_bytes(b'x')
    assert score(protocol, tmp_path / 'out', form='objects') == {'dog': 1}
    (tmp_path / 'out/dog/001/00002.png').unlink()
    with pytest.raises(InputError, match=r'dog/001/00002\.png: this mask is missing'):
        score(protocol, tmp_path / 'out', form='objects')
    save_objects(tmp_path / 'out/dog', draw(4), (1,))
    with pytest.raises(InputError, match=r'object 1 has the folder 0*1 too; remove one'):
        score(protocol, tmp_path / 'out', form='objects')
    shutil.rmtree(tmp_path / 'out/dog/001')
    (tmp_path / 'out/dog/002').mkdir()
    with pytest.raises(InputError, match=r'dog/002: no masks \(\.png\) in it'):
        score(protocol, tmp_path / 'out', form='objects')


def test_results_may_be_named_in_any_case_and_without_zeros(make_davis, draw, save_masks, tmp_path):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(12)}))
    save_masks(tmp_path / 'out/dog', draw(12))
    for path in (tmp_path / 'out/dog').iterdir():
        path.rename(path.with_name(f'{int(path.stem)}.PNG'))
    (tmp_path / 'out/dog/._1.PNG').write_bytes(b'x')
    assert score(protocol, tmp_path / 'out') == {'dog': 1}
    (tmp_path / 'out/dog/5.PNG').unlink()
    with pytest.raises(InputError, match=r'dog/00005\.png: this mask is missing'):
        score(protocol, tmp_path / 'out')


def test_white_on_black_in_colour_is_scored_by_the_form_that_is_named(
    make_davis, draw, save_masks, tmp_path
):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(5)}))
    save_masks(tmp_path / 'out/dog', draw(5))
    convert((tmp_path / 'out/dog').iterdir(), lambda mask: np.stack([mask * 255] * 3, axis=-1))
    for form in ('ids', 'rgb'):
        for extra_ids in ('error', 'drop'):
            with pytest.raises(InputError, match='--form=binary') as caught:
                score(protocol, tmp_path / 'out', form=form, extra_ids=extra_ids)
            assert extra_ids == 'drop' or '--extra-ids' not in str(caught.value)
    assert score(protocol, tmp_path / 'out', form='binary') == {'dog': 1}


def test_masks_of_0_and_255_are_never_dropped_as_other_ids(make_davis, draw, save_masks, tmp_path):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(5)}))
    save_masks(tmp_path / 'out/dog', draw(5) * 255)
    with pytest.raises(InputError, match=r'drop leaves nothing .*; read them with --form=binary'):
        score(protocol, tmp_path / 'out', extra_ids='drop')
    with pytest.raises(InputError, match=r'value 255 is no object .*; read it with --form=binary'):
        score(protocol, tmp_path / 'out')
    save_masks(tmp_path / 'out/dog', draw(5) * 100)
    with pytest.raises(InputError, match=r'only the values 100 here.*; correct the ids'):
        score(protocol, tmp_path / 'out', extra_ids='drop')
    np.save(tmp_path / 'dog.npy', draw(5) * 255)
    with pytest.raises(InputError, match='only 0 and 255 in it, need ids; write 1'):
        score(protocol, tmp_path, form='arrays', extra_ids='drop')
    save_masks(tmp_path / 'out/dog', np.where(draw(5, ids=(1, 2)) == 2, 255, draw(5)))
    with pytest.raises(InputError, match=r'255 is no object .*; leave it out with --extra-ids'):
        score(protocol, tmp_path / 'out')
    assert score(protocol, tmp_path / 'out', extra_ids='drop') == {'dog': 1}


@pytest.mark.parametrize('first', [1, -1])
def test_results_that_are_numbered_from_another_frame_on_are_refused(
    make_davis, draw, save_masks, tmp_path, first
):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(5)}))
    save_masks(tmp_path / 'out/dog', draw(5))
    for path in sorted((tmp_path / 'out/dog').iterdir(), reverse=first > 0):
        path.rename(path.with_name(f'{int(path.stem) + first}.png'))
    with pytest.raises(InputError, match=r'out/dog: 5 masks from .* name each mask as its frame'):
        score(protocol, tmp_path / 'out')
    names = [str(number + first) for number in range(5)]
    np.savez(tmp_path / 'dog.npz', masks=draw(5), frames=names)
    with pytest.raises(InputError, match=r'dog\.npz: 5 masks from .* name each mask as its frame'):
        score(protocol, tmp_path, form='arrays')
    np.save(tmp_path / 'dog.npy', draw(5))
    with pytest.raises(InputError, match=r'dog\.npz: dog\.npy is there too; remove one'):
        score(protocol, tmp_path, form='arrays')


def test_one_mask_for_two_objects_is_refused(make_davis, draw, save_masks, tmp_path):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(5, ids=(1, 2))}))
    save_masks(tmp_path / 'out/dog', draw(5) * 255)
    with pytest.raises(InputError, match='shows one object, dog has 2; write ids'):
        score(protocol, tmp_path / 'out', form='binary')
    with pytest.raises(InputError, match=r'value 255 is no object .*; write ids instead of it'):
        score(protocol, tmp_path / 'out')


@pytest.mark.parametrize('need_frames', [True, False])
def test_youtube_vos_needs_ids_and_all_masks_that_are_scored(make_youtube, draw, need_frames):
    root = make_youtube({'a': (draw(5), {1: 0})}, split='train', given_only=False)
    paths = sorted((root / 'train/Annotations/a').iterdir())
    load = functools.partial(protocols.load, 'youtube_vos_local', root, need_frames=need_frames)
    if not need_frames:
        shutil.rmtree(root / 'train/JPEGImages')
    assert len(load().tasks[0].scored) == 4
    mask = paths[3].read_bytes()
    paths[3].unlink()
    with pytest.raises(InputError, match=r'a/00015\.png: this annotation is missing'):
        load()
    paths[3].write_bytes(mask)
    convert(paths, lambda mask: mask * 255)
    with pytest.raises(InputError, match=r'a/00000\.png: only 0 and 255 here.*write ids instead'):
        load()


def test_one_mask_for_one_object_of_any_id(make_youtube, draw, save_masks, tmp_path):
    root = make_youtube({'a': (draw(5, ids=(7,)), {7: 0})}, split='train', given_only=False)
    protocol = protocols.load('youtube_vos_local', root)
    save_masks(tmp_path / 'out/a', draw(5) * 255, step=5)
    assert score(protocol, tmp_path / 'out', form='binary') == {'a': 1}


def test_numbers_in_meta_json_mean_the_files_of_that_number(make_youtube, draw):
    root = make_youtube({'a': (draw(5, ids=(1, 2)), {1: 0, 2: 2})}, 'train', given_only=False)
    expected = protocols.load('youtube_vos_local', root).tasks[0]
    objects = [{'id': 1, 'frames': [0, 5, 10, 15, 20]}, {'id': '2', 'frames': [10, 15, 20]}]
    (root / 'train/meta.json').write_text(json.dumps({'videos': {'a': {'objects': objects}}}))
    for need_frames in (True, False):
        (task,) = protocols.load('youtube_vos_local', root, need_frames=need_frames).tasks
        assert (task.ids, task.scored) == (expected.ids, expected.scored)
        assert task.sequence.given == expected.sequence.given


def test_a_list_that_was_saved_by_another_program(make_davis, draw):
    root = make_davis({'dog walk': draw(4)})
    path = root / 'ImageSets/2017/val.txt'
    for encoding in ('utf-8-sig', 'utf-16'):
        path.write_bytes('dog walk\r\n'.encode(encoding))
        for need_frames in (True, False):
            (task,) = protocols.load('davis2017', root, need_frames=need_frames).tasks
            assert task.name == 'dog walk'
    path.write_bytes('hünd\n'.encode('latin-1'))
    with pytest.raises(InputError, match=r'val\.txt: no UTF-8 text in line 1, perhaps Latin-1'):
        protocols.load('davis2017', root)


@pytest.mark.parametrize('unseen', ['\u200b', '\x1a', '\xa0', '\u2800', '\ufe0f'])
def test_what_cannot_be_seen_in_a_listed_name_is_written_out(make_davis, draw, unseen):
    root = make_davis({'dog': draw(4), 'owl': draw(4)})
    (root / 'ImageSets/2017/val.txt').write_text(f'owl\nd{unseen}og\n')
    for need_frames in (True, False):
        with pytest.raises(InputError) as caught:
            protocols.load('davis2017', root, need_frames=need_frames)
        assert f'd{ascii(unseen)[1:-1]}og: folder is missing (did you mean dog?)' in str(
            caught.value
        )


@pytest.mark.parametrize('part', ['JPEGImages/480p/dog', 'Annotations/480p', 'ImageSets'])
def test_a_link_to_nothing_instead_of_a_folder_is_named(make_davis, draw, part):
    root = make_davis({'dog': draw(4)})
    (root / part).rename(root / 'elsewhere')
    (root / part).symlink_to('gone')
    for need_frames in (True, False) if 'JPEG' not in part else (True,):
        with pytest.raises(InputError, match=rf'{part}: link to gone, which is missing'):
            protocols.load('davis2017', root, need_frames=need_frames)


def test_names_of_other_letters_where_the_system_has_ascii_alone(make_davis, draw, evaluate):
    root = make_davis({'hünd': draw(4)})
    ascii_only = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    flags = '--protocol=davis2017', f'--data={root}', f'--results={root}/Annotations/480p'
    done = evaluate(*flags, f'--out={root}/scores', **ascii_only)
    assert (done.returncode, done.stderr.count('\n')) == (2, 1)
    assert 'set PYTHONUTF8=1, as names of files are read as ascii' in done.stderr
    assert (
        evaluate(*flags, f'--out={root}/scores', **ascii_only | {'PYTHONUTF8': '1'}).returncode == 0
    )


def test_frames_of_a_phone_are_upright_and_their_masks_too(make_davis, draw, save_masks, tmp_path):
    """Portrait: 64x48 as stored, 48x64 as seen."""
    root = make_davis({'dog': draw(4)})
    upright = draw(4).swapaxes(1, 2)
    for path in (root / 'JPEGImages/480p/dog').iterdir():
        image, exif = Image.open(path), Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    for labels, size in ((draw(4), (48, 64)), (upright, (64, 48))):
        save_masks(root / 'Annotations/480p/dog', np.ascontiguousarray(labels))
        sequence = protocols.load('davis2017', root).tasks[0].sequence
        assert sequence.size == size == sequence.read_frame(1).shape[:2]
        assert masks.object_ids(sequence.read_given('00000')).tolist() == [1]
        protocol = protocols.load('davis2017', root, need_frames=False)
        save_masks(tmp_path / 'out/dog', np.ascontiguousarray(labels))
        output_files.score_results(protocol, open_results(tmp_path / 'out'), tmp_path / 'scores')
        shown = Image.open(tmp_path / 'scores/report/pictures/frames/dog/00001.jpg')
        assert shown.size == size[::-1]


def test_held_out_sequences_begin_with_an_object(make_davis, draw):
    labels = draw(4)
    labels[0] = 0
    root = make_davis({'dog': draw(4), 'owl': labels})
    source = {'root': str(root), 'split': 'val', 'name': 'val'}
    spec = read(EvaluationSpec, {'sources': [source]}, 'evaluation')
    with pytest.raises(InputError, match=r'owl/00000\.png: no object in it.*held-out sequence'):
        HeldOut(spec)
