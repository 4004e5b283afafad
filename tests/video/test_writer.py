"""The MP4 that is written: size, times and colours, and nothing half-written."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video import samples
from vos_jax.video.reader import open_video
from vos_jax.video.writer import VideoWriter

COLOURS = [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]  # of the first ids


def write(path, images, times_s, rate=25):
    with VideoWriter(path, images[0].shape[:2], rate) as movie:
        for image, time_s in zip(images, times_s):
            movie.write(image, time_s)
    return list(open_video(path).read())


@pytest.mark.parametrize('rate', [25, Fraction(30000, 1001)])
def test_the_frame_rate_is_that_of_the_source(tmp_path, rate):
    times_s = [n / Fraction(rate) for n in range(30)]
    found = write(tmp_path / 'a.mp4', [samples.draw(n) for n in range(30)], times_s, rate)
    assert [frame.time_s for frame in found] == times_s
    assert open_video(tmp_path / 'a.mp4').rate == rate


def test_irregular_times_are_written(tmp_path):
    times_s = [Fraction(n, 1000) for n in (0, 33, 34, 500, 510, 2000)]
    found = write(tmp_path / 'a.mp4', [samples.draw(n) for n in range(6)], times_s)
    assert [frame.time_s for frame in found] == times_s


def test_frames_at_one_time_are_all_kept(tmp_path):
    found = write(tmp_path / 'a.mp4', [samples.draw(n) for n in range(3)], [0, 0, 0])
    assert len(found) == 3


def test_an_odd_picture_is_padded_to_even_sides_by_its_edge(tmp_path):
    image = samples.draw(0, (41, 67))
    (frame,) = write(tmp_path / 'a.mp4', [image], [0])
    assert frame.image.shape == (42, 68, 3)
    middle = slice(10, 31)  # away from the grid's lines, which lose colour detail
    assert np.abs(frame.image[middle, 67].astype(int) - frame.image[middle, 66]).max() <= 8
    assert np.abs(frame.image[:41, :67].astype(int) - image).mean() < 8


@pytest.mark.parametrize('colour', COLOURS)
def test_the_colours_of_ids_are_shown_as_they_are(tmp_path, colour):
    image = np.full((32, 48, 3), colour, np.uint8)
    (frame,) = write(tmp_path / 'a.mp4', [image], [0])
    assert np.abs(frame.image.astype(int) - image).max() <= 4


def test_any_player_can_start_before_the_whole_file_is_there(tmp_path):
    write(tmp_path / 'a.mp4', [samples.draw(n) for n in range(5)], range(5))
    content = (tmp_path / 'a.mp4').read_bytes()
    assert content.index(b'moov') < content.index(b'mdat')
    with av.open(str(tmp_path / 'a.mp4')) as container:
        assert container.streams.video[0].codec_context.pix_fmt == 'yuv420p'


def test_nothing_is_left_where_writing_fails(tmp_path):
    def fail():
        with VideoWriter(tmp_path / 'a.mp4', samples.SIZE, 25) as movie:
            movie.write(samples.draw(0), 0)
            raise RuntimeError('the model failed')

    with pytest.raises(RuntimeError, match='the model failed'):
        fail()
    assert not list(tmp_path.iterdir())


def test_without_an_image_there_is_no_file(tmp_path):
    with VideoWriter(tmp_path / 'film.mp4', (32, 48), 25):
        pass
    assert not list(tmp_path.iterdir())
