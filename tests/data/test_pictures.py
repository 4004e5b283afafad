"""Pictures of any content: their forms, their orientation, and those that are made to do harm."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from vos_jax.data import exif, frames, masks, pictures
from vos_jax.errors import InputError


def encode(image, form='PNG', **options):
    """Bytes of an image of Pillow or an array."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(width=4, height=4, bits=8, colour=0, pixels=b'', extra=b''):
    """A PNG by its parts, which need not agree."""
    head = struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)
    parts = [
        chunk(b'IHDR', head),
        extra,
        chunk(b'IDAT', zlib.compress(pixels)),
        chunk(b'IEND', b''),
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def with_orientation(image, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, form, exif=exif, **({'lossless': True} if form == 'WEBP' else {}))


@pytest.fixture
def picture(rng):
    """Blocks of colour without symmetry, u8[32, 48, 3]; JPEG keeps them nearly."""
    return np.kron(rng.integers(0, 256, (4, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
def test_frames_are_turned_as_their_exif_says(tmp_path, picture, form, orientation):
    path = tmp_path / 'a.jpg'
    path.write_bytes(with_orientation(picture, form, orientation))
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert('RGB'))
    read = frames.read_frame(path)
    assert read.flags.c_contiguous
    assert np.abs(read.astype(int) - expected).max() <= 4  # two decoders of JPEG
    assert frames.read_size(path) == read.shape[:2]
    stored = frames.read_frame(path, upright=False)
    assert stored.shape[:2] == frames.read_size(path, upright=False) == (32, 48)


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_a_frame_whose_video_has_its_stored_size_stays_as_it_is(picture, orientation):
    data = with_orientation(picture, 'PNG', orientation)
    np.testing.assert_array_equal(frames.decode_frame(data, 'a.png', size=(32, 48)), picture)
    assert frames.decode_frame(data, 'a.png', size=(48, 32), pad=True).shape == (48, 32, 4)


def test_a_buffer_holds_what_is_turned_in_place(picture):
    data = with_orientation(picture, 'JPEG', 3)
    buffer = np.empty((32, 48, 4), np.uint8)
    turned = frames.decode_frame(data, 'a.jpg', pad=True, buffer=buffer)
    np.testing.assert_array_equal(turned[..., :3], frames.decode_frame(data, 'a.jpg'))


@pytest.mark.parametrize(('name', 'form'), [('a.jpg', 'WEBP'), ('a.png', 'JPEG'), ('a.jpg', 'PNG')])
def test_the_content_says_what_a_frame_is(tmp_path, picture, name, form):
    (tmp_path / name).write_bytes(encode(picture, form))
    read = frames.read_frame(tmp_path / name)
    assert np.abs(read.astype(int) - picture).mean() < 12


@pytest.mark.parametrize('form', ['GIF', 'BMP', 'TIFF', 'DDS'])
def test_other_pictures_are_named_by_their_form(tmp_path, picture, form):
    (tmp_path / 'a.jpg').write_bytes(encode(picture, form))
    with pytest.raises(InputError, match=rf'a\.jpg: {form} file; frames are JPEG, PNG or WebP'):
        frames.read_frame(tmp_path / 'a.jpg')


@pytest.mark.parametrize(('brand', 'form'), [(b'heic', 'HEIC or AVIF'), (b'isom', 'video')])
def test_a_video_is_no_picture_of_its_container(brand, form):
    assert pictures.form_of(b'\0\0\0\x18ftyp' + brand) == form


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGBA', '1'])
def test_frames_of_other_modes_become_rgb(picture, mode):
    data = encode(Image.fromarray(picture).convert(mode))
    assert frames.decode_frame(data, 'a.png').shape == (32, 48, 3)


def zero_bytes(count):
    return b'\0' * count


BOMB = b'a\0\0' + zlib.compress(zero_bytes(80_000_000), level=1)
HARMFUL = {
    'no width': png(width=0, pixels=zero_bytes(4)),
    'no height': png(height=0),
    'one bit in the height': png(height=4 + 2**30, pixels=zero_bytes(20)),
    'largest height': png(height=2**32 - 1, pixels=zero_bytes(20)),
    'decompression bomb': png(30_000, 30_000, pixels=zero_bytes(1000)),
    'more pixels than its size': png(pixels=zero_bytes(50_000_000)),
    'text bomb': png(pixels=zero_bytes(4), extra=chunk(b'zTXt', BOMB)),
    'profile bomb': png(pixels=zero_bytes(4), extra=chunk(b'iCCP', BOMB)),
    'short head': b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', b'\0\0\0\4'),
    'head alone': b'\x89PNG\r\n\x1a\n',
    'no form of PNG': png(bits=3, pixels=zero_bytes(20)),
    'JPEG without end': b'\xff\xd8\xff\xe0\0\x10JFIF',
    'JPEG of 65500x65500': b'\xff\xd8\xff\xc0\0\x11\x08'
    + struct.pack('>HH', 65500, 65500)
    + b'\x03\x01\x22\0\x02\x11\1\3\x11\1',
    'cut WebP': b'RIFF\x10\0\0\0WEBPVP8 ',
}


def refusal(read, path):
    """What is said of a file, in one line; '' where it is read."""
    with contextlib.suppress(InputError):
        read(path)
        return ''
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize('name', HARMFUL)
def test_hostile_pictures_are_one_line(tmp_path, name):
    path = tmp_path / 'a.png'
    path.write_bytes(HARMFUL[name])
    told = {read: refusal(read, path) for read in (frames.read_frame, masks.read_labels)}
    told |= {read: refusal(read, path) for read in (frames.read_size, masks.read_size)}
    assert all(text.startswith(f'{path}: ') or not text for text in told.values())
    assert '\n' not in ''.join(told.values())
    if name != 'more pixels than its size':  # they are never looked at
        assert told[frames.read_frame]
    if name not in ('text bomb', 'profile bomb', 'more pixels than its size'):
        assert told[masks.read_labels]


@pytest.mark.parametrize('name', ['no width', 'no height', 'largest height', 'decompression bomb'])
def test_sizes_are_checked_before_anything_is_decoded(tmp_path, name):
    (tmp_path / 'a.png').write_bytes(HARMFUL[name])
    with pytest.raises(InputError, match=r'a\.png: mask of size \d+x\d+'):
        masks.read_labels(tmp_path / 'a.png')


def test_all_forms_are_distinguished(picture):
    assert pictures.form_of(encode(picture, 'JPEG')) == 'JPEG'
    assert pictures.form_of(encode(picture, 'AVIF' if 'AVIF' in Image.SAVE else 'PNG')) != ''
    assert pictures.form_of(b'text') == ''


@pytest.mark.parametrize('form', ['JPEG', 'WEBP'])
def test_an_orientation_may_stand_in_xmp(picture, form):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encode(picture, form, xmp=xmp)
    assert exif.read_orientation(data) == 6
    assert frames.decode_size(data, 'a') == (48, 32)


@pytest.mark.parametrize('cut', range(6, 40, 3))
def test_damaged_exif_says_nothing(picture, cut):
    whole = with_orientation(picture, 'JPEG', 6)
    at = whole.index(b'Exif\0\0')
    damaged = whole[: at + cut].ljust(at + cut + 12, b'\xff') + whole[at + cut + 12 :]
    assert exif.read_orientation(damaged) in (1, 6)
