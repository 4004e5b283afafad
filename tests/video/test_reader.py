"""Videos and folders of frames, as they come out of cameras, phones and bad copies."""

import socket
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video import samples
from vos_jax.data import frames
from vos_jax.errors import InputError
from vos_jax.video.reader import Range, open_video

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


def test_a_video_cut_off_in_its_first_frame_is_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), np.uint8)
    path = samples.write_video(tmp_path / 'video.mp4', noise)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r'video\.mp4: no frame'):
        open_video(path)


@pytest.mark.parametrize('name', ['video.mp4', 'video.mov', 'video.mkv', 'video.webm'])
def test_the_loss_of_a_few_frames_of_a_short_video_is_told(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (20, *samples.SIZE, 3), np.uint8)
    codec = 'libvpx-vp9' if 'webm' in name else 'libx264'
    path = samples.write_video(tmp_path / name, noise, codec=codec)
    assert len(list(open_video(path).read())) == 20
    path.write_bytes(path.read_bytes()[:-20_000])
    numbers = []
    with pytest.raises(InputError, match=r'ends after frame|damaged after frame'):
        numbers.extend(frame.number for frame in open_video(path).read())
    assert 10 < len(numbers) < 20
