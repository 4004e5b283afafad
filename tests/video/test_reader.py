"""Videos and folders of frames, as they come out of cameras, phones and bad copies."""

import socket
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.video import samples
from vos_jax.data import frames
from vos_jax.errors import InputError
from vos_jax.video.reader import Range, open_video
from vos_jax.video.writer import VideoWriter

# The corners tell how a picture is turned: red, green, blue, white from the top left, clockwise.
CORNERS = np.array([[(255, 0, 0), (0, 255, 0)], [(255, 255, 255), (0, 0, 255)]], np.uint8)


def picture(height=40, width=64):
    return CORNERS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def corners_of(image):
    """u8[2, 2, 3] from the middles of the quarters."""
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2]


def read_all(video, chosen=None):
    return list(video.read(chosen))


def test_frames_come_back_as_they_were_written(tmp_path):
    images = [samples.draw(number) for number in range(12)]
    video = open_video(samples.write_video(tmp_path / 'a.mp4', images, crf='1'))
    assert (video.size, video.rate, video.num_frames) == (samples.SIZE, 25, 12)
    found = read_all(video)
    assert [frame.number for frame in found] == list(range(12))
    assert [frame.name for frame in found][:2] == ['00000', '00001']
    assert [frame.time_s for frame in found] == [Fraction(n, 25) for n in range(12)]
    for frame, image in zip(found, images):
        # crf 1: nearly lossless; neighbouring frames differ by 160 at the square's sides
        assert np.abs(frame.image.astype(int) - image).max() <= 12


@pytest.mark.parametrize('size', [(41, 67), (40, 67), (41, 64), (33, 35)])
def test_odd_sizes_are_read_whole(tmp_path, size):
    image = samples.draw(0, size)
    frame, *_ = read_all(open_video(samples.write_video(tmp_path / 'a.mp4', [image] * 2, crf='1')))
    assert np.abs(frame.image.astype(int) - image).max() <= 12


@pytest.mark.parametrize('turn', [90, 180, -90])
def test_a_turned_phone_video_is_set_upright(tmp_path, turn):
    path = samples.write_video(tmp_path / 'a.mov', [picture()] * 3, turn=turn, crf='1')
    video = open_video(path)
    # FFmpeg's angle is counter-clockwise, as that of np.rot90.
    upright = np.rot90(picture(), turn // 90)
    assert video.size == upright.shape[:2]
    found = read_all(video)
    assert len(found) == 3
    difference = corners_of(found[2].image).astype(int) - corners_of(upright)
    assert np.abs(difference).max() <= 6


def test_a_mirrored_video_is_set_upright(tmp_path):
    path = tmp_path / 'a.mp4'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', 25, options={'crf': '1'})
        stream.width, stream.height, stream.pix_fmt = 64, 40, 'yuv444p'
        stream.set_display_matrix([-(1 << 16), 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30])
        frame = av.VideoFrame.from_ndarray(picture(), format='rgb24')
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frame, *_ = read_all(open_video(path))
    difference = corners_of(frame.image).astype(int) - CORNERS[:, ::-1]
    assert np.abs(difference).max() <= 6


def test_irregular_times_are_kept(tmp_path):
    times_s = [Fraction(n, 100) for n in (0, 4, 5, 30, 31, 90)]
    images = [samples.draw(number) for number in range(6)]
    video = open_video(samples.write_video(tmp_path / 'a.mp4', images, times_s=times_s, crf='1'))
    found = read_all(video)
    assert [frame.time_s for frame in found] == times_s
    assert np.abs(found[3].image.astype(int) - images[3]).max() <= 12


@pytest.mark.parametrize(('name', 'codec'), [('a.webm', 'libvpx-vp9'), ('a.gif', 'gif')])
def test_webm_and_gif_are_read(tmp_path, name, codec):
    images = [samples.draw(number) for number in range(5)]
    video = open_video(samples.write_video(tmp_path / name, images, codec=codec))
    found = read_all(video)
    assert len(found) == 5
    assert video.size == samples.SIZE
    # GIF has 3 + 3 + 2 bits a pixel here: steps of 36 and 85.
    assert np.abs(found[4].image.astype(int) - images[4]).mean() < 30


@pytest.mark.parametrize(('space', 'limited'), [(1, True), (5, True), (1, False)])
def test_colours_follow_the_tags_of_the_file(tmp_path, space, limited):
    path, levels = tmp_path / 'a.mp4', 1 if limited else 2
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', 25, options={'crf': '1'})
        stream.width, stream.height, stream.pix_fmt = 64, 40, 'yuv444p'
        stream.codec_context.colorspace, stream.codec_context.color_range = space, levels
        frame = av.VideoFrame.from_ndarray(picture(), format='rgb24')
        frame = frame.reformat(format='yuv444p', dst_colorspace=space, dst_color_range=levels)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frame, *_ = read_all(open_video(path))
    # BT.601 read as BT.709, or 16..235 as 0..255, would be wrong by 15 and more.
    assert np.abs(corners_of(frame.image).astype(int) - CORNERS).max() <= 6


def test_a_range_gives_the_same_frames_as_the_whole(tmp_path):
    path = samples.write_video(tmp_path / 'a.mp4', [samples.draw(n) for n in range(20)])
    video = open_video(path)
    every, some = read_all(video), read_all(video, Range(3, 15, 4))
    assert [frame.number for frame in some] == [3, 7, 11]
    for frame in some:
        assert frame.time_s == every[frame.number].time_s
        np.testing.assert_array_equal(frame.image, every[frame.number].image)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 9, 1):
        frames.write_frame(tmp_path / f'frame{number}.jpg', np.full((8, 8, 3), number, np.uint8))
    video = open_video(tmp_path, rate=10)
    found = read_all(video)
    assert [frame.name for frame in found] == ['frame1', 'frame9', 'frame10']
    assert [frame.time_s for frame in found] == [0, Fraction(1, 10), Fraction(1, 5)]
    assert video.number_of('frame10') == 2


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('none.mp4', None, 'no such video'),
        ('text.mp4', b'hello ' * 999, 'not a video'),
        ('empty.mp4', b'', 'not a video'),
        ('empty_folder', 'folder', 'no frames in it'),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if content == 'folder':
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f'{name}: {message}'):
        open_video(path)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / 'sound.mp4'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('aac', 44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InputError, match='no pictures in it'):
        open_video(path)


@pytest.mark.parametrize(('name', 'codec'), [('a.mp4', 'libx264'), ('a.webm', 'libvpx-vp9')])
def test_a_truncated_file_gives_its_frames_and_then_says_so(tmp_path, name, codec):
    noise = np.random.default_rng(0).integers(0, 256, (100, *samples.SIZE, 3), np.uint8)
    whole = samples.write_video(tmp_path / f'whole-{name}', noise, codec=codec)
    content = whole.read_bytes()
    cut = tmp_path / name
    cut.write_bytes(content[: len(content) // 2])
    video, numbers = open_video(cut), []
    numbered = (frame.number for frame in video.read())
    with pytest.raises(InputError, match=r'copy the video again.*--stop=\d+') as refused:
        numbers.extend(numbered)
    stop = int(str(refused.value).partition('--stop=')[2])
    assert numbers == list(range(stop))
    assert 20 < stop < 80
    assert len(read_all(video, Range(stop=stop))) == stop


def test_a_file_cut_before_its_index_is_refused(tmp_path):
    whole = samples.write_video(tmp_path / 'whole.mp4', [samples.draw(n) for n in range(50)])
    cut = tmp_path / 'cut.mp4'
    cut.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(InputError, match=r'cut\.mp4: .*copy it again'):
        open_video(cut)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'start': -1}, '--start=-1: '),
        ({'start': 4, 'stop': 4}, '--stop=4: '),
        ({'stride': 0}, '--stride=0: '),
    ],
)
def test_a_range_without_frames_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Range(**wrong)


def test_a_frame_rate_for_a_video_file_is_refused(tmp_path):
    path = samples.write_video(tmp_path / 'a.mp4', [samples.draw(0)] * 2)
    with pytest.raises(InputError, match='has its own frame rate'):
        open_video(path, rate=30)


def test_a_playlist_makes_no_request_to_another_machine(tmp_path):
    """Named as a video, a playlist would be followed to wherever it points."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        lines = [
            '#EXTM3U',
            '#EXT-X-TARGETDURATION:1',
            '#EXTINF:1,',
            f'http://127.0.0.1:{port}/a.ts',
        ]
        (tmp_path / 'video.mp4').write_text('\n'.join([*lines, '#EXT-X-ENDLIST', '']))
        with pytest.raises(InputError, match=r'not a video|no frame'):
            open_video(tmp_path / 'video.mp4')
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_video_cut_off_in_its_first_frame_is_reported(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), np.uint8)
    path = samples.write_video(tmp_path / 'video.mp4', noise)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r'video\.mp4: no frame'):
        open_video(path)


@pytest.mark.parametrize('name', ['video.mp4', 'video.mov', 'video.mkv', 'video.webm'])
def test_the_loss_of_a_few_frames_of_a_short_video_is_reported(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (20, *samples.SIZE, 3), np.uint8)
    codec = 'libvpx-vp9' if 'webm' in name else 'libx264'
    path = samples.write_video(tmp_path / name, noise, codec=codec)
    assert len(list(open_video(path).read())) == 20
    path.write_bytes(path.read_bytes()[:-20_000])
    numbers = []
    with pytest.raises(InputError, match=r'ends after frame|damaged after frame'):
        numbers.extend(frame.number for frame in open_video(path).read())
    assert 10 < len(numbers) < 20


def hold(path, codec='mpeg4', *, frames=10, held=100, pixels='yuv420p', draw=samples.draw):
    """A video whose last picture is held for `held` frames, as the container states it."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.codec_context.time_base = Fraction(1, 25)
        packets = []
        for number in range(frames):
            image = draw(number, (48, 64))
            frame = av.VideoFrame.from_ndarray(image, format='rgb24').reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode()
        packets[-1].duration = round(held / 25 / packets[-1].time_base)
        container.mux(packets)
        if path.suffix == '.avi':  # an empty chunk holds the picture before it
            empty = av.Packet(b'')
            empty.stream, empty.time_base = stream, Fraction(1, 25)
            empty.pts = empty.dts = frames + held
            container.mux(empty)
    return path


@pytest.mark.parametrize(
    ('name', 'codec'),
    [
        ('a.avi', 'mpeg4'),
        ('a.flv', 'flv'),
        ('a.mkv', 'mpeg4'),
        ('a.mp4', 'mpeg4'),
        ('a.wmv', 'wmv2'),
    ],
)
def test_a_last_picture_that_is_held_for_long_is_no_damage(tmp_path, name, codec):
    assert len(read_all(open_video(hold(tmp_path / name, codec)))) == 10


@pytest.mark.parametrize(
    ('name', 'codec'), [('a.avi', 'mjpeg'), ('a.flv', 'flv'), ('a.wmv', 'wmv2')]
)
@pytest.mark.parametrize('share', [0.5, 0.9])
def test_half_a_file_is_reported_whatever_its_header_says(tmp_path, name, codec, share):
    pixels = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
    path = hold(tmp_path / name, codec, frames=200, held=1, pixels=pixels)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    numbers = []
    with pytest.raises(InputError, match=r'(ends|damaged) after frame \d+.*--stop='):
        numbers.extend(frame.number for frame in open_video(path).read())
    assert 20 < len(numbers) <= 200  # an index may lie behind the last frame


@pytest.mark.parametrize(
    ('name', 'codec'),
    [
        ('a.ts', 'mpeg4'),
        ('a.ts', 'libx264'),
        ('a.mpg', 'mpeg2video'),
        ('a.ivf', 'libvpx'),
        ('a.h264', 'libx264'),
    ],
)
def test_a_file_that_says_nothing_of_its_length_is_told_by_its_last_picture(tmp_path, name, codec):
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    path = hold(tmp_path / name, codec, frames=20, held=1, draw=lambda n, _: noise[n])
    assert len(read_all(open_video(path))) == 20
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    numbers = []
    with pytest.raises(InputError, match=r'(ends|damaged) after frame \d+.*--stop='):
        numbers.extend(frame.number for frame in open_video(path).read())
    assert 4 < len(numbers) < 20


@pytest.mark.parametrize('name', ['10:30.mp4', 'file:a.mp4', 'http:a.mp4', '100%d.mp4', 'a?b.mp4'])
def test_a_name_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with VideoWriter(name, (48, 64), 25) as writer:
        for number in range(3):
            writer.write(samples.draw(number, (48, 64)), Fraction(number, 25))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(read_all(open_video(name))) == 3


def save_animation(path, turn=1, times_ms=(40, 40, 3000)):
    first, *others = (Image.fromarray(samples.draw(n, (48, 64))) for n in range(len(times_ms)))
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {'lossless': True, 'exif': exif, 'duration': list(times_ms)}
    first.save(path, 'WEBP', save_all=True, append_images=others, **options)
    return path


def test_an_animated_webp_is_a_video(tmp_path):
    video = open_video(save_animation(tmp_path / 'a.webp'))
    found = read_all(video)
    assert [frame.name for frame in found] == ['00000', '00001', '00002']
    assert [float(frame.time_s) for frame in found] == [0, 0.04, 0.08]
    assert (video.size, video.num_frames) == ((48, 64), 3)
    for frame in found:
        np.testing.assert_array_equal(frame.image, samples.draw(frame.number, (48, 64)))
    assert [f.number for f in read_all(video, Range(start=1, stop=2))] == [1]
    assert open_video(save_animation(tmp_path / 'b.webp', turn=6)).size == (64, 48)


def test_half_an_animated_webp_is_reported(tmp_path):
    path = save_animation(tmp_path / 'a.webp', times_ms=[40] * 30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r'a\.webp: .*copy'):
        read_all(open_video(path))


@pytest.mark.parametrize('name', ['notes.txt', 'list.mp4'])
def test_text_is_no_video_whatever_its_name(tmp_path, name):
    samples.write_video(tmp_path / 'a.mp4', [samples.draw(0)] * 3)
    text = 'hello\n' * 99 if name == 'notes.txt' else "ffconcat version 1.0\nfile 'a.mp4'\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf'{name}: not a video'):
        open_video(tmp_path / name)


def test_a_folder_as_people_have_it(tmp_path):
    for number, stem in enumerate(['-1', '0', '1.25', '1.5']):
        frames.write_frame(tmp_path / f'{stem}.JPG', np.full((8, 8, 3), number, np.uint8))
    (tmp_path / '._0.JPG').write_bytes(b'x')
    (tmp_path / '.ipynb_checkpoints').mkdir()
    assert [frame.name for frame in read_all(open_video(tmp_path))] == ['-1', '0', '1.25', '1.5']
    frames.write_frame(tmp_path / '0.jpeg', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match='differ only in their suffix'):
        open_video(tmp_path)


def test_photographs_of_a_phone_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        image = Image.fromarray(samples.draw(number, (48, 64)))
        image.save(tmp_path / f'{number}.png', exif=exif)
    video = open_video(tmp_path)
    assert (video.size, video.stored_size) == ((64, 48), (48, 64))
    np.testing.assert_array_equal(read_all(video)[0].image, np.rot90(samples.draw(0, (48, 64)), -1))


@pytest.mark.parametrize('rate', [0, -1, float('nan'), float('inf'), 1e300])
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    frames.write_frame(tmp_path / '0.jpg', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r'--fps=.*above 0'):
        open_video(tmp_path, rate)
