"""Masks on disk, forms and refusals of docs/data.md, "Masks"."""

import io

import numpy as np
import pytest
from PIL import Image

from vos_jax.data import masks
from vos_jax.errors import InputError
from vos_jax.storage.palette import PALETTE


def test_palette_follows_the_voc_rule():
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        9: (192, 0, 0),
        255: (224, 224, 192),
    }
    assert PALETTE.shape == (256, 3)
    assert {i: tuple(map(int, PALETTE[i])) for i in known} == known


def test_writing_then_reading_gives_the_ids_back(tmp_path, rng):
    ids = np.concatenate([rng.choice(255, 63, replace=False), [255]]).astype(np.uint8)
    labels = rng.choice(ids, (37, 53))
    masks.write_labels(tmp_path / 'a' / 'mask.png', labels)
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'a' / 'mask.png'), labels)
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['mask.png']


def test_a_written_file_is_indexed_with_the_palette(tmp_path, draw):
    masks.write_labels(tmp_path / 'mask.png', draw('.1', '2v'))
    with Image.open(tmp_path / 'mask.png') as image:
        assert image.mode == 'P'
        np.testing.assert_array_equal(image.getpalette(), PALETTE.ravel())
        assert image.convert('RGB').getpixel((1, 0)) == (128, 0, 0)


def test_the_palette_of_a_read_file_is_never_used(tmp_path, draw):
    image = Image.fromarray(draw('.1', '2v'))
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png'), draw('.1', '2v'))


def test_grey_values_are_ids(tmp_path, draw):
    Image.fromarray(draw('.1', '2v')).save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png'), draw('.1', '2v'))


def test_one_bit_is_id_one(tmp_path, draw):
    Image.fromarray(draw('.1', '1.').astype(bool)).save(tmp_path / 'mask.png')
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png'), draw('.1', '1.'))


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_ids_of_small_indexed_files(tmp_path, draw, bits):
    image = Image.fromarray(draw('.1', '1.'))
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / 'mask.png', bits=bits)
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png'), draw('.1', '1.'))


@pytest.mark.parametrize(('bits', 'top'), [(2, 3), (4, 9)])
def test_grey_of_few_bits_is_not_stretched(tmp_path, bits, top):
    labels = np.arange(top + 1, dtype=np.uint8)[None]
    (tmp_path / 'mask.png').write_bytes(_grey_png(labels, bits))
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png'), labels)


def _grey_png(labels, bits):
    """A grey PNG of 2 or 4 bits, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(name, data):
        body = name + data
        return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

    height, width = labels.shape
    digits = (labels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(digits.reshape(height, -1), axis=1)
    data = b''.join(b'\0' + row.tobytes() for row in rows)
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    parts = [chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(data)), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def test_255_is_void_unless_binary_is_asked_for(tmp_path, draw):
    masks.write_labels(tmp_path / 'mask.png', draw('.v'))
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png'), draw('.v'))
    np.testing.assert_array_equal(masks.read_labels(tmp_path / 'mask.png', binary=True), draw('.1'))


def test_binary_refuses_ids(tmp_path, draw):
    masks.write_labels(tmp_path / 'mask.png', draw('.2v'))
    with pytest.raises(InputError, match=r'mask\.png: value 2 in a data set read as binary'):
        masks.read_labels(tmp_path / 'mask.png', binary=True)


def test_a_set_is_binary_only_if_no_mask_has_an_id(tmp_path, draw):
    paths = [tmp_path / f'{i}.png' for i in range(3)]
    for path, labels in zip(paths, [draw('..'), draw('.v'), draw('1v')]):
        masks.write_labels(path, labels)
    assert masks.is_binary(paths[:2])
    assert not masks.is_binary(paths)
    assert not masks.is_binary(paths[:1])


@pytest.mark.parametrize(
    ('image', 'reason'),
    [
        (Image.new('RGB', (4, 4)), 'colour image, need one channel'),
        (Image.new('RGBA', (4, 4)), 'colour image with alpha'),
        (Image.new('LA', (4, 4)), 'grey image with alpha'),
        (Image.new('I;16', (4, 4)), '16-bit image'),
        (Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)), '100 different values'),
    ],
)
def test_other_forms_are_refused_by_name(tmp_path, image, reason):
    image.save(tmp_path / 'mask.png')
    with pytest.raises(InputError, match=rf'mask\.png: {reason}.*docs/data\.md#masks'):
        masks.read_labels(tmp_path / 'mask.png')


def test_smoothed_edges_are_no_ids(tmp_path):
    """Half the size of a mask of 0 and 255, or of ids times 85, by the mean of four pixels."""
    for first in (0, 255):
        labels = np.zeros((41, 41), np.uint8)
        labels[9:30, 9:30] = 255
        labels[9:30, :9] = first // 3
        small = Image.fromarray(labels).resize((20, 20), Image.Resampling.BILINEAR)
        path = save(tmp_path / 'mask.png', small)
        for binary in (False, True):
            with pytest.raises(InputError, match='an anti-aliased or lossy mask'):
                masks.read_labels(path, binary=binary)
    labels = np.where(labels == 85, np.uint8(200), labels)
    np.testing.assert_array_equal(masks.read_labels(save(path, labels)), labels)


def test_a_jpeg_is_refused_even_with_the_name_of_a_png(tmp_path):
    Image.new('L', (4, 4)).save(tmp_path / 'mask.png', format='JPEG')
    with pytest.raises(InputError, match='JPEG file, masks are PNG'):
        masks.read_labels(tmp_path / 'mask.png')


def test_a_mask_of_another_size_names_both(tmp_path, draw):
    masks.write_labels(tmp_path / 'mask.png', draw('.1.', '.1.'))
    with pytest.raises(InputError, match=r'mask\.png: mask of size 3x2, its frame is 4x2'):
        masks.read_labels(tmp_path / 'mask.png', size=(2, 4))
    with pytest.raises(InputError, match=r'its frame is 2x3; turn the mask'):
        masks.read_labels(tmp_path / 'mask.png', size=(3, 2))


def test_a_cut_file_is_named(tmp_path, rng):
    masks.write_labels(tmp_path / 'mask.png', rng.integers(0, 9, (64, 64), dtype=np.uint8))
    data = (tmp_path / 'mask.png').read_bytes()
    (tmp_path / 'mask.png').write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r'mask\.png: unreadable mask .*copy the file again'):
        masks.read_labels(tmp_path / 'mask.png')


@pytest.mark.parametrize('mode', ['P', 'L', '1'])
def test_a_cut_or_damaged_mask_is_never_another_mask(draw, mode):
    buffer = io.BytesIO()
    Image.fromarray(draw('.11.', '.1..') * 255).convert(mode).save(buffer, 'PNG')
    data = buffer.getvalue()
    right = masks.decode_labels(data, 'mask.png')
    cut = [data[:length] for length in range(len(data))]
    flipped = [bytearray(data) for _ in range(8 * len(data))]
    for bit, changed in enumerate(flipped):
        changed[bit // 8] ^= 1 << bit % 8
    refused = 0
    for damaged in (*cut, *flipped):
        try:
            np.testing.assert_array_equal(masks.decode_labels(bytes(damaged), 'mask.png'), right)
        except InputError:
            refused += 1
    assert refused > 100  # all that the pixels are read from


@pytest.mark.parametrize('text', ['', 'no image'])
def test_a_file_that_is_no_image_is_named(tmp_path, text):
    (tmp_path / 'mask.png').write_text(text)
    with pytest.raises(InputError, match=r'mask\.png: not an image'):
        masks.read_labels(tmp_path / 'mask.png')


def test_a_missing_mask_is_named(tmp_path):
    with pytest.raises(InputError, match=r'mask\.png: this mask is missing'):
        masks.read_labels(tmp_path / 'mask.png')


def test_object_ids_leave_out_background_and_void(draw):
    np.testing.assert_array_equal(masks.object_ids(draw('.3v', '115')), [1, 3, 5])


def save(path, labels, **options):
    """Saves an image of Pillow or an array; palettes by `palette`."""
    image = Image.fromarray(labels) if isinstance(labels, np.ndarray) else labels
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def black_and_white(labels, *, white, bits=1):
    """An indexed image whose index `white` is white and whose other one is black."""
    image = Image.fromarray(np.where(labels > 0, white, 1 - white).astype(np.uint8))
    image.putpalette([255 if i == white else 0 for i in (0, 1) for _ in range(3)])
    return image, {'bits': bits}


def small_forms(labels):
    """White on black as programs store it that make files smaller: (image, options)."""
    yield Image.fromarray(labels > 0), {}
    for white in (0, 1):
        for bits in (1, 2, 4, 8):
            yield black_and_white(labels, white=white, bits=bits)
    yield Image.fromarray(np.stack([labels] * 3, axis=-1)), {}
    yield Image.merge('LA', [Image.fromarray(labels), Image.new('L', labels.shape[::-1], 255)]), {}
    yield Image.fromarray(np.dstack([labels, labels, labels, np.full_like(labels, 255)])), {}


@pytest.mark.parametrize('number', range(12))
def test_white_is_the_object_in_each_form_of_a_binary_set(tmp_path, draw, number):
    labels = draw('.v.', 'vv.')
    image, options = list(small_forms(labels))[number]
    path = save(tmp_path / 'mask.png', image, **options)
    np.testing.assert_array_equal(masks.read_labels(path, binary=True), labels > 0)
    plain = save(tmp_path / 'plain.png', labels)
    assert masks.is_binary([path, plain])
    assert masks.is_binary([plain, path])


@pytest.mark.parametrize('bits', [2, 4])
def test_grey_of_few_bits_is_white_in_a_binary_set(tmp_path, draw, bits):
    labels = draw('.1', '11')
    path = tmp_path / 'mask.png'
    path.write_bytes(_grey_png(labels * (2**bits - 1), bits))
    np.testing.assert_array_equal(masks.read_labels(path, binary=True), labels)
    assert masks.is_binary([path, save(tmp_path / 'plain.png', draw('v.'))])
    assert not masks.is_binary([path])


def test_one_bit_is_an_id_among_ids(tmp_path, draw):
    one_bit = save(tmp_path / 'a.png', Image.fromarray(draw('.1') > 0))
    ids = save(tmp_path / 'b.png', draw('2v'))
    assert not masks.is_binary([one_bit, ids])
    assert not masks.is_binary([one_bit])


def test_where_first_masks_tell_nothing_the_others_do(tmp_path, draw):
    one_bit = save(tmp_path / 'a.png', Image.fromarray(draw('.1') > 0))
    grey, ids = save(tmp_path / 'b.png', draw('.v')), save(tmp_path / 'c.png', draw('.2'))
    assert masks.is_binary([one_bit], [one_bit, grey])
    assert not masks.is_binary([one_bit], [one_bit, ids, grey])


@pytest.mark.parametrize('mode', ['LA', 'RGBA'])
def test_opaque_alpha_says_nothing(tmp_path, draw, mode):
    image = Image.fromarray(draw('.1v')).convert(mode)
    path = save(tmp_path / 'mask.png', image)
    if mode == 'LA':
        np.testing.assert_array_equal(masks.read_labels(path), draw('.1v'))
    else:
        with pytest.raises(InputError, match='colour image, need one channel'):
            masks.read_labels(path)
    image.putalpha(Image.fromarray(np.array([[255, 254, 255]], np.uint8)))
    with pytest.raises(InputError, match='with alpha'):
        masks.read_labels(save(path, image))


def test_white_on_black_in_colour_names_the_form_that_reads_it(tmp_path, draw):
    path = save(tmp_path / 'mask.png', np.stack([draw('.v')] * 3, axis=-1))
    with pytest.raises(InputError, match='white on black: read it as binary'):
        masks.read_labels(path)
