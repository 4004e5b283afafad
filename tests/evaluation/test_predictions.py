import numpy as np
import pytest
from PIL import Image

from vos_jax.data import masks
from vos_jax.errors import InputError
from vos_jax.evaluation import protocols
from vos_jax.evaluation.predictions import open_results
from vos_jax.storage.palette import PALETTE


@pytest.fixture
def protocol(make_davis, draw):
    return protocols.load('davis2017', make_davis({'dog': draw(4, ids=(1, 2))}))


@pytest.fixture
def labels(draw):
    return draw(4, ids=(1, 2), speed=3)


def read_all(protocol, folder, **options):
    results = open_results(folder, **options)
    results.check(protocol)
    return [results.read(protocol.tasks[0], stem) for stem in ('00001', '00002')]


@pytest.mark.parametrize('mode', ['P', 'L'])
def test_indexed_and_grey_masks_are_read_as_ids(protocol, labels, tmp_path, mode):
    for t, one in enumerate(labels):
        image = Image.fromarray(one)
        if mode == 'P':
            image.putpalette(list(range(255, -1, -1)) * 3)  # never looked at
        (tmp_path / 'out/dog').mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / f'out/dog/{t:05d}.png')
    np.testing.assert_array_equal(read_all(protocol, tmp_path / 'out'), labels[1:3])


def test_one_bit_masks_are_object_one(make_davis, draw, tmp_path):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(3)}))
    (tmp_path / 'out/dog').mkdir(parents=True)
    Image.fromarray(draw(3)[1] > 0).save(tmp_path / 'out/dog/00001.png')
    results = open_results(tmp_path / 'out')
    results.check(protocol)
    np.testing.assert_array_equal(results.read(protocol.tasks[0], '00001'), draw(3)[1])


def test_first_and_last_frame_may_be_missing(protocol, labels, tmp_path, save_masks):
    save_masks(tmp_path / 'out/dog', labels[1:3], first=1)
    np.testing.assert_array_equal(read_all(protocol, tmp_path / 'out'), labels[1:3])


def test_sequences_may_lie_in_a_folder_annotations(protocol, labels, tmp_path, save_masks):
    save_masks(tmp_path / 'out/Annotations/dog', labels)
    np.testing.assert_array_equal(read_all(protocol, tmp_path / 'out'), labels[1:3])


def test_an_id_that_is_no_object_is_refused_or_dropped(protocol, labels, tmp_path, save_masks):
    labels[2, -1, -1] = 3
    save_masks(tmp_path / 'out/dog', labels)
    with pytest.raises(InputError, match=r'dog/00002\.png: id 3 is no object.*--extra-ids=drop'):
        read_all(protocol, tmp_path / 'out')
    dropped = read_all(protocol, tmp_path / 'out', extra_ids='drop')[1]
    assert dropped[-1, -1] == 0
    assert set(np.unique(dropped)) == {0, 1, 2}


def test_255_points_to_the_binary_form(make_davis, draw, tmp_path, save_masks):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(4)}))
    save_masks(tmp_path / 'out/dog', draw(4) * 255)
    with pytest.raises(InputError, match=r'value 255 is no object.*--form=binary'):
        read_all(protocol, tmp_path / 'out')
    read = read_all(protocol, tmp_path / 'out', form='binary')
    np.testing.assert_array_equal(read, draw(4)[1:3])


def test_ids_with_gaps_are_checked_one_by_one(make_youtube, draw, tmp_path, save_masks):
    root = make_youtube({'a': (draw(3, ids=(2, 5)), {2: 0, 5: 0})}, 'train', given_only=False)
    protocol = protocols.load('youtube_vos_local', root)
    save_masks(tmp_path / 'out/a', np.where(draw(3) == 1, 3, 0).astype(np.uint8), step=5)
    with pytest.raises(InputError, match=r'id 3 is no object \(objects of a: 2, 5\)'):
        open_results(tmp_path / 'out').read(protocol.tasks[0], '00005')


def test_every_value_is_the_object_of_davis2016(make_davis, draw, tmp_path, save_masks):
    protocol = protocols.load('davis2016', make_davis({'dog': draw(4, ids=(1, 2))}))
    values = draw(4, ids=(7, 255))
    save_masks(tmp_path / 'out/dog', values)
    np.testing.assert_array_equal(read_all(protocol, tmp_path / 'out'), values[1:3] > 0)


def save_colours(folder, labels, palette):
    folder.mkdir(parents=True, exist_ok=True)
    for t, one in enumerate(labels):
        Image.fromarray(palette[one]).save(folder / f'{t:05d}.png')


def test_colours_are_refused_unless_asked_for(protocol, labels, tmp_path):
    save_colours(tmp_path / 'out/dog', labels, PALETTE)
    with pytest.raises(InputError, match=r'dog/00001\.png: colour image.*--form=rgb'):
        read_all(protocol, tmp_path / 'out')
    read = read_all(protocol, tmp_path / 'out', form='rgb')
    np.testing.assert_array_equal(read, labels[1:3])


def test_colours_of_the_second_palette_are_ids_too(make_davis, draw, tmp_path):
    ids = tuple(range(1, 4))
    protocol = protocols.load('davis2017', make_davis({'dog': draw(3, ids=ids)}))
    labels = draw(3, ids=ids)
    labels[1, 0, :3] = (9, 22, 30)  # where the two palettes differ
    palette = PALETTE.copy()
    palette[9] = (191, 0, 0)
    palette[22:] = np.arange(22, 256)[:, None]
    save_colours(tmp_path / 'out/dog', labels, palette)
    read = open_results(tmp_path / 'out', form='rgb', extra_ids='drop')
    np.testing.assert_array_equal(
        read.read(protocol.tasks[0], '00001'), np.where(labels[1] > 3, 0, labels[1])
    )


def test_a_colour_of_no_palette_is_named(protocol, labels, tmp_path):
    palette = PALETTE.copy()
    palette[2] = (0, 129, 0)
    save_colours(tmp_path / 'out/dog', labels, palette)
    with pytest.raises(InputError, match=r'1 colours are not in the palette \(#008100\)'):
        read_all(protocol, tmp_path / 'out', form='rgb')


def save_objects(folder, labels, ids=(1, 2)):
    for object_id in ids:
        for t, one in enumerate(labels):
            path = folder / str(object_id) / f'{t:05d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(((one == object_id) * 255).astype(np.uint8)).save(path)


def test_one_folder_for_each_object(protocol, labels, tmp_path):
    save_objects(tmp_path / 'out/dog', labels)
    read = read_all(protocol, tmp_path / 'out', form='objects')
    np.testing.assert_array_equal(read, labels[1:3])


@pytest.mark.parametrize(('overlap', 'winner'), [('first', 1), ('last', 2)])
def test_overlapping_objects_need_a_rule(protocol, labels, tmp_path, overlap, winner):
    save_objects(tmp_path / 'out/dog', labels)
    shared = np.zeros_like(labels[1])
    shared[:] = 255
    Image.fromarray(shared).save(tmp_path / 'out/dog/1/00001.png')
    Image.fromarray(shared).save(tmp_path / 'out/dog/2/00001.png')
    with pytest.raises(InputError, match=r'2/00001\.png: 3072 pixels.*--overlap'):
        read_all(protocol, tmp_path / 'out', form='objects')
    read = read_all(protocol, tmp_path / 'out', form='objects', overlap=overlap)
    assert (read[0] == winner).all()


def test_an_object_with_a_gap_in_its_masks_is_refused(protocol, labels, tmp_path):
    save_objects(tmp_path / 'out/dog', labels)
    (tmp_path / 'out/dog/2/00002.png').unlink()
    with pytest.raises(InputError, match=r'2/00002\.png: this mask is missing'):
        read_all(protocol, tmp_path / 'out', form='objects')


def test_arrays_of_a_sequence(protocol, labels, tmp_path):
    (tmp_path / 'out').mkdir()
    np.savez(tmp_path / 'out/dog.npz', masks=labels.astype(np.int64))
    np.testing.assert_array_equal(read_all(protocol, tmp_path / 'out', form='arrays'), labels[1:3])


def test_arrays_with_names_may_come_in_any_order(protocol, labels, tmp_path):
    (tmp_path / 'out').mkdir()
    np.savez(tmp_path / 'out/dog.npz', masks=labels[[2, 1]], frames=['00002', '00001'])
    np.testing.assert_array_equal(read_all(protocol, tmp_path / 'out', form='arrays'), labels[1:3])


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((3, 48, 64), np.uint8), '3 masks for 4 frames'),
        (np.zeros((4, 48, 64), np.float32), 'need integer ids'),
        (np.zeros((4, 24, 32), np.uint8), 'size 32x24, its annotation is 64x48'),
        (np.full((4, 48, 64), 300), 'ids must be in 0..255'),
        (np.array([{}], object), 'not a whole array'),
    ],
)
def test_arrays_of_other_forms_are_refused(protocol, tmp_path, array, message):
    (tmp_path / 'out').mkdir()
    np.save(tmp_path / 'out/dog.npy', array)
    with pytest.raises(InputError, match=message):
        read_all(protocol, tmp_path / 'out', form='arrays')


def test_results_of_another_data_set_are_recognised(protocol, labels, tmp_path, save_masks):
    save_masks(tmp_path / 'out/cat', labels)
    with pytest.raises(InputError, match=r'found cat.*another data set'):
        open_results(tmp_path / 'out').check(protocol)


def test_a_missing_sequence_is_named(make_davis, draw, labels, tmp_path, save_masks):
    protocol = protocols.load('davis2017', make_davis({'dog': draw(4), 'owl': draw(4)}))
    save_masks(tmp_path / 'out/dog', labels)
    with pytest.raises(InputError, match='out/owl: this sequence is missing'):
        open_results(tmp_path / 'out').check(protocol)


def test_a_missing_frame_is_named(protocol, labels, tmp_path, save_masks):
    save_masks(tmp_path / 'out/dog', labels)
    (tmp_path / 'out/dog/00002.png').unlink()
    with pytest.raises(InputError, match=r'dog/00002\.png: this mask is missing'):
        open_results(tmp_path / 'out').check(protocol)


def test_another_size_is_found_before_scoring(protocol, labels, tmp_path, save_masks):
    save_masks(tmp_path / 'out/dog', labels[:, :24, :32])
    with pytest.raises(InputError, match=r'dog/00001\.png: mask of size 32x24.*64x48'):
        open_results(tmp_path / 'out').check(protocol)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'I;16'])
def test_other_modes_are_refused_by_name(protocol, labels, tmp_path, mode, save_masks):
    save_masks(tmp_path / 'out/dog', labels)
    path = tmp_path / 'out/dog/00001.png'
    if mode == 'I;16':
        Image.fromarray(labels[1].astype(np.uint16)).save(path)
    else:
        image = Image.fromarray(labels[1]).convert(mode)
        image.putalpha(128)
        image.save(path)
    with pytest.raises(InputError, match=r'dog/00001\.png.*(alpha|16-)'):
        read_all(protocol, tmp_path / 'out')


def test_a_smoothed_mask_is_refused(protocol, labels, tmp_path, save_masks):
    save_masks(tmp_path / 'out/dog', labels)
    ramp = np.linspace(0, 254, labels[1].size).astype(np.uint8).reshape(labels[1].shape)
    masks.write_labels(tmp_path / 'out/dog/00001.png', ramp)
    with pytest.raises(InputError, match='anti-aliased or lossy'):
        read_all(protocol, tmp_path / 'out')
