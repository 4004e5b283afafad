import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from vos_jax.errors import InputError
from vos_jax.evaluation import archive, predictions, protocols
from vos_jax.storage.palette import PALETTE


@pytest.fixture
def test_dev(make_davis, draw):
    """A split of which only the first annotations are there."""
    root = make_davis({'dog': draw(4, ids=(1, 2)), 'owl': draw(3)}, split='test-dev')
    for path in (root / 'Annotations').rglob('*.png'):
        if path.stem != '00000':
            path.unlink()
    return protocols.load('davis2017', root, 'test-dev')


@pytest.fixture
def saved(tmp_path, draw, save_masks):
    save_masks(tmp_path / 'masks/dog', draw(4, ids=(1, 2), speed=3))
    save_masks(tmp_path / 'masks/owl', draw(3))
    return predictions.open_results(tmp_path / 'masks')


def test_davis_has_its_sequences_at_the_top(test_dev, saved, tmp_path, draw):
    path = archive.write_zip(test_dev, saved, tmp_path)
    assert path.name == 'davis2017-test-dev-480p.zip'
    with zipfile.ZipFile(path) as packed:
        assert sorted(packed.namelist()) == [
            *(f'dog/{t:05d}.png' for t in range(4)),
            *(f'owl/{t:05d}.png' for t in range(3)),
        ]
        image = Image.open(io.BytesIO(packed.read('dog/00001.png')))
    np.testing.assert_array_equal(np.array(image), draw(4, ids=(1, 2), speed=3)[1])
    assert image.getpalette() == PALETTE.ravel().tolist()


def test_test_dev_masks_of_another_program_are_packed_whole(saved, test_dev, evaluate, tmp_path):
    flags = ('--protocol=davis2017', '--split=test-dev', f'--data={test_dev.root}', '--zip')
    result = evaluate(f'--results={saved.root}', *flags, f'--out={tmp_path}/out', '--noreport')
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(tmp_path / 'out/davis2017-test-dev-480p.zip') as packed:
        assert len(packed.namelist()) == 7


def test_youtube_vos_has_the_required_frames_in_annotations(
    make_youtube, draw, tmp_path, save_masks
):
    protocol = protocols.load('youtube_vos2018', make_youtube({'a': (draw(5), {1: 2})}))
    save_masks(tmp_path / 'masks/a', draw(5), step=5)
    path = archive.write_zip(protocol, predictions.open_results(tmp_path / 'masks'), tmp_path)
    assert path.name == 'youtube_vos2018-valid-sparse.zip'
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == [f'Annotations/a/000{t}.png' for t in (10, 15, 20)]


def rewrite(path, change):
    """Writes the zip again with its files, {name: bytes}, changed."""
    with zipfile.ZipFile(path) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    change(files)
    with zipfile.ZipFile(path, 'w') as packed:
        for name, data in files.items():
            packed.writestr(name, data)


def encoded(labels, palette=None):
    image, buffer = Image.fromarray(labels), io.BytesIO()
    if palette is not None:
        image.putpalette(palette)
    image.save(buffer, 'PNG')
    return buffer.getvalue()


COLOURS = PALETTE.tobytes()


@pytest.mark.parametrize(
    ('name', 'data', 'message'),
    [
        ('dog/00001.png', None, r'dog/00001\.png is missing'),
        ('results/dog/00001.png', b'', 'does not belong in it'),
        ('dog/00001.png', encoded(np.zeros((48, 64), np.uint8)), 'L image; servers want indexed'),
        ('dog/00001.png', encoded(np.zeros((4, 6), np.uint8), COLOURS), '6x4, the frame is 64x48'),
        ('dog/00001.png', encoded(np.full((48, 64), 3, np.uint8), COLOURS), 'id 3 is no object'),
        (
            'dog/00001.png',
            encoded(np.zeros((48, 64), np.uint8), COLOURS[::-1]),
            'the palette is not that',
        ),
    ],
)
def test_a_zip_that_differs_from_what_is_asked_is_refused(
    test_dev, saved, tmp_path, name, data, message
):
    path = archive.write_zip(test_dev, saved, tmp_path)

    def change(files):
        files.pop(name, None)
        if data is not None:
            files[name] = data

    rewrite(path, change)
    with pytest.raises(InputError, match=message):
        archive.check_zip(path, test_dev)


def test_a_failed_zip_leaves_nothing_behind(test_dev, saved, tmp_path):
    (tmp_path / 'masks/owl/00002.png').unlink()
    with pytest.raises(InputError, match=r'owl/00002\.png: this mask is missing'):
        archive.write_zip(test_dev, saved, tmp_path / 'zips')
    assert list((tmp_path / 'zips').iterdir()) == []
