"""Reads videos, as files (through FFmpeg's libraries) or as folders of frames, frame by frame."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from vos_jax.data import frames as frame_files
from vos_jax.data import listing
from vos_jax.errors import InputError
from vos_jax.storage.names import times
from vos_jax.video import animation, ending, ffmpeg
from vos_jax.video.ffmpeg import av

_DEFAULT_RATE = Fraction(25)
_HIGHEST_RATE = 100_000  # frames per second of a folder
# What a header may promise beyond the last frame: a longer sound track, or rounding alone.
_SLACK_S = 1
_SLACK_FRAMES = 3
_SLACK_SHARE = Fraction(1, 20)
_REORDERED = 4  # pictures that may come after one that is stored behind them
# Of FFmpeg's formats those of videos and pictures: no text, and no lists that name other files.
_FORMATS = (
    'mov,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,gif,apng,ogg,h264,hevc,m4v,ivf,'
    'mjpeg,mjpeg_2000,obu,av1,yuv4mpegpipe,dv,mxf,nut,rm,swf,h263,wtv,mpjpeg,'
    'jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe'
)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
      number: its number in the video, from 0.
      name: what its mask file is called, without suffix: '00012', or the stem of its image.
      time_s: since the first frame of the video; irregular where the video is.
      image: u8[H, W, 3], RGB, upright.
    """

    number: int
    name: str
    time_s: Fraction
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Range:
    """Frames start, start + stride, ... below stop (None: the end)."""

    start: int = 0
    stop: int | None = None
    stride: int = 1

    def __post_init__(self):
        rules = [
            ('start', self.start >= 0, 'frames are numbered from 0'),
            ('stop', self.stop is None or self.stop > self.start, 'a frame after --start'),
            ('stride', self.stride >= 1, '1 takes each frame'),
        ]
        for name, is_right, rule in rules:
            if not is_right:
                raise InputError(f'--{name}={getattr(self, name)}: {rule}')

    def __contains__(self, number):
        is_below = self.stop is None or number < self.stop
        return number >= self.start and is_below and (number - self.start) % self.stride == 0

    def count(self, num_frames):
        """How many of the frames of a video are taken; None where that is not known.

        >>> Range(start=2, stride=3).count(10)
        3
        """
        ends = [end for end in (self.stop, num_frames) if end is not None]
        return len(range(self.start, min(ends), self.stride)) if ends else None


def open_video(path, rate=None):
    """Opens a video file or a folder of frames.

    Args:
      path: a file that FFmpeg reads (MP4, MOV, WebM, GIF, ...) or a folder of JPEG or PNG frames.
      rate: frames per second of a folder; default 25. A file says its own.

    Returns:
      VideoFile, AnimatedFile or FrameFolder. All have `path`, `size` (height, width) of the upright
      frames, `stored_size` before they are turned, `rate` (mean frames per second, a Fraction),
      `num_frames` (about, or None), `identity` (plain values that tell it from another video),
      `name_of(number)` and `number_of(stem)` (a frame's mask is NAME.png; None: of no frame), and
      `read(chosen)`.

    Raises:
      InputError: where there is no video.
    """
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path, _DEFAULT_RATE if rate is None else rate)
    listing.check_link(path)
    if not path.is_file():
        raise InputError(f'{path}: no such video; name a video file or a folder of frames')
    if rate is not None:
        raise InputError(f'--fps={rate}: {path} is a video file and has its own frame rate')
    return AnimatedFile(path) if animation.is_animated_webp(path) else VideoFile(path)


class _File:
    """What files of videos have in common, animated pictures too."""

    def __init__(self, path):
        self.path = Path(path)

    @property
    def identity(self):
        return {'video': str(self.path.resolve()), 'bytes': self.path.stat().st_size}

    def number_of(self, stem):
        return int(stem) if stem.isdecimal() and stem.isascii() else None

    def name_of(self, number):
        return f'{number:05d}'


class VideoFile(_File):
    """A video file; see `open_video`."""

    def __init__(self, path):
        super().__init__(path)
        with self._open() as (container, stream):
            picture = next(self._decode(container, stream), None)
            if picture is None:
                raise InputError(f'{path}: no frame can be read from it; copy the video again')
            self.rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
            self._stated_s = _stated_duration(container, stream)
            self._slack_s = _SLACK_FRAMES / Fraction(self.rate)
            if len(container.streams) > 1:
                self._slack_s = max(self._slack_s, _SLACK_S)
            self._stated_frames = stream.frames
            self._is_whole = False if _is_cut(stream, self.path) else ending.is_whole(self.path)
            self._turn = _turn_of(picture, path)
            self.size = self._upright(picture).shape[:2]
            self.stored_size = self.size[::-1] if self._turn[0] else self.size
        self.num_frames = stream.frames or (
            round(self._stated_s * self.rate) if self._stated_s else None
        )

    def read(self, chosen=None) -> Iterator[Frame]:
        """Yields the frames of a Range in time order.

        Frames are numbered as they are shown; all are decoded, so numbers are exact where a video
        has no constant rate, and only the chosen ones are converted.

        Raises:
          InputError: where the file is damaged, after the last frame before that.
        """
        chosen = chosen or Range()
        clock = _Clock(self.rate)
        number = -1
        with self._open() as (container, stream):
            for number, picture in enumerate(self._decode(container, stream, clock)):
                time_s = clock.time_of(picture)
                if number in chosen:
                    yield Frame(number, self.name_of(number), time_s, self._image(picture))
                if number + 1 == chosen.stop:
                    return
        missing_s = (self._stated_s or 0) - clock.end_s
        is_short = missing_s > max(self._slack_s, _SLACK_SHARE * (self._stated_s or 0))
        is_cut = self._is_whole is False or clock.ends_torn
        if is_cut or (self._is_whole is None and is_short):
            frames = f' of {self._stated_frames}' if self._stated_frames else ''
            seconds = f' of {float(self._stated_s):.1f} s' if self._stated_s else ''
            raise InputError(
                f'{self.path}: ends after frame {number}{frames}, at {float(clock.end_s):.1f} s'
                f'{seconds}; copy the video again, or take it as it is with --stop={number + 1}'
            )

    @contextlib.contextmanager
    def _open(self):
        ffmpeg.require()
        try:
            # replace: titles in another encoding are no reason to refuse a video. Only files: a
            # playlist that somebody calls a video must not make this machine ask others.
            container = av.open(
                f'file:{self.path}',  # '10:30.mp4' names no protocol
                metadata_errors='replace',
                options={'protocol_whitelist': 'file', 'format_whitelist': _FORMATS},
            )
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f'{self.path}: not a video, or not whole ({error.strerror}); copy it again, or '
                'convert it to MP4'
            ) from None
        with container:
            cover = av.stream.Disposition.attached_pic  # a still picture on a sound file
            streams = [s for s in container.streams.video if not s.disposition & cover]
            if not streams:
                raise InputError(f'{self.path}: no pictures in it; name a video, or copy it again')
            streams[0].thread_type = 'AUTO'
            yield container, streams[0]

    def _decode(self, container, stream, clock=None):
        count = 0
        try:
            for packet in container.demux(stream):
                if clock is not None:
                    clock.see(packet)
                for picture in packet.decode():
                    count += 1
                    yield picture
        except av.FFmpegError as error:
            for picture in _held_back(stream):
                count += 1
                yield picture
            where, remedy = 'no frame of it can be read', 'copy it again'
            if count:
                where = f'damaged after frame {count - 1}'
                remedy = f'copy the video again, or end before that with --stop={count}'
            raise InputError(f'{self.path}: {where} ({error.strerror}); {remedy}') from None

    def _image(self, picture):
        image = self._upright(picture)
        if image.shape[:2] != self.size:
            raise InputError(
                f'{self.path}: the picture changes from {times(self.size)} to '
                f'{times(image.shape)}; convert the video to one size'
            )
        return image

    def _upright(self, picture):
        image = picture.to_ndarray(format='rgb24')
        is_swapped, flips = self._turn
        if is_swapped:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: flips[0], :: flips[1]])


class AnimatedFile(_File):
    """An animated WebP; see `open_video`."""

    def __init__(self, path):
        super().__init__(path)
        first = next(animation.read_images(self.path), None)
        if first is None:
            raise InputError(f'{path}: no frame can be read from it; copy the video again')
        self._durations = animation.list_durations(self.path)
        self.size = self.stored_size = first.shape[:2]
        self.num_frames = len(self._durations)
        total = sum(self._durations)
        self.rate = self.num_frames / total if total else _DEFAULT_RATE

    def read(self, chosen=None) -> Iterator[Frame]:
        """Yields the frames of a Range; InputError where the file is cut or damaged."""
        chosen, number, time_s = chosen or Range(), -1, Fraction(0)
        for number, image in enumerate(animation.read_images(self.path)):
            if number in chosen:
                yield Frame(number, self.name_of(number), time_s, image)
            if number + 1 == chosen.stop:
                return
            time_s += self._durations[number] or 1 / Fraction(self.rate)
        if ending.is_whole(self.path) is False:
            raise InputError(
                f'{self.path}: ends after frame {number}; copy the video again, or take it as it '
                f'is with --stop={number + 1}'
            )


class FrameFolder:
    """A folder of frames, in the order of the numbers in their names; see `open_video`."""

    def __init__(self, path, rate):
        self.path = Path(path)
        if not (math.isfinite(rate) and 0 < rate <= _HIGHEST_RATE):
            raise InputError(
                f'--fps={rate}: frames per second must be above 0, and {_HIGHEST_RATE} at most'
            )
        self.rate = Fraction(rate).limit_denominator(1001)
        found = listing.list_files(self.path, frame_files.SUFFIXES)
        if not found:
            raise InputError(f'{path}: no frames in it; JPEG, PNG and WebP files are read')
        self._files = list(found.values())
        self._numbers = {stem: number for number, stem in enumerate(found)}
        self.size = frame_files.read_size(self._files[0])
        self.stored_size = frame_files.read_size(self._files[0], upright=False)
        self.num_frames = len(self._files)

    @property
    def identity(self):
        return {'video': str(self.path.resolve()), 'frames': self.num_frames}

    def number_of(self, stem):
        return self._numbers.get(listing.find_stem(stem, self._numbers))

    def name_of(self, number):
        return self._files[number].stem

    def read(self, chosen=None) -> Iterator[Frame]:
        """Yields the frames of a Range; InputError where one is damaged."""
        for number, file in enumerate(self._files):
            if number not in (chosen or Range()):
                continue
            image = frame_files.read_frame(file)
            frame_files.check_same_size(image, self.size, file)
            yield Frame(number, file.stem, number / self.rate, image)


class _Clock:
    """Times of frames since the first one; a frame without a time stamp follows at the mean rate.

    Attributes:
      end_s: when the last frame ends.
      ends_torn: the last packet, or one of the last pictures, was not there as a whole.
    """

    def __init__(self, rate):
        self._step_s = 1 / Fraction(rate)
        self._num_since_torn, self._is_packet_torn = _REORDERED, False
        self._first_s = None
        self.end_s = Fraction(0)

    @property
    def ends_torn(self):
        return self._is_packet_torn or self._num_since_torn < _REORDERED

    def see(self, packet):
        if packet.size:  # the last one only flushes the decoder
            self._is_packet_torn = packet.is_corrupt

    def time_of(self, picture):
        self._num_since_torn = 0 if picture.is_corrupt else self._num_since_torn + 1
        if picture.pts is None or not picture.time_base:
            time_s = self.end_s
        else:
            time_s = picture.pts * Fraction(picture.time_base)
            self._first_s = time_s if self._first_s is None else self._first_s
            time_s -= self._first_s
        has_length = picture.duration and picture.time_base
        length_s = picture.duration * Fraction(picture.time_base) if has_length else self._step_s
        self.end_s = time_s + length_s
        return time_s


def _held_back(stream):
    """What the decoder's threads have finished of a file that cannot be read further."""
    try:
        return stream.codec_context.decode(None) if stream.codec_context else []
    except av.FFmpegError:
        return []


def _is_cut(stream, path):
    """Whether frames of the index (of MP4 and MOV, which may come first) lie behind the end."""
    ends = [entry.pos + entry.size for entry in stream.index_entries]
    return max(ends, default=0) > path.stat().st_size


def _stated_duration(container, stream):
    if stream.duration:
        return stream.duration * Fraction(stream.time_base)
    return Fraction(container.duration, 10**6) if container.duration else None


def _turn_of(picture, path):
    """How to set a picture upright: whether its axes are swapped, and the steps along y and x.

    Phones store what the sensor sees and add a matrix that says how it was held, here
    x' = a x + c y, y' = b x + d y with y downwards; mirrored ones (front cameras) have one too.
    """
    matrices = [bytes(d) for d in picture.side_data if d.type.name == 'DISPLAYMATRIX']
    if not matrices:
        return False, (1, 1)
    a, b, _, c, d = np.frombuffer(matrices[0], np.int32)[:5].tolist()
    if [bool(value) for value in (a, b, c, d)] not in ([1, 0, 0, 1], [0, 1, 1, 0]):
        raise InputError(f'{path}: turned by an odd angle; convert the video so that it is upright')
    x, y = (c, b) if b else (a, d)
    return bool(b), (1 if y > 0 else -1, 1 if x > 0 else -1)
