"""Writes an MP4 that any player and browser shows, frame by frame, with the times of its source."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from vos_jax.storage.atomic import temporary_path
from vos_jax.video import ffmpeg
from vos_jax.video.ffmpeg import av

_TICKS = 90000  # per second: exact for 24, 25, 30, 50 and 60 frames per second, and for 30000/1001


class VideoWriter:
    """A context that writes u8[H, W, 3] images; the file appears whole, when it is left well.

    Without an image there is no file. H.264 with one colour sample for 2x2 pixels needs even sides:
    an odd picture gets its last row or column twice.

    Args:
      path: the file, *.mp4.
      size: (height, width).
      rate: mean frames per second; the time of each frame comes with it.
    """

    def __init__(self, path, size, rate):
        ffmpeg.require('or take --nooverlay')
        self._path = Path(path)
        self._temporary = temporary_path(self._path)
        self._margin = [(0, side % 2) for side in size] + [(0, 0)]
        height, width = (side + side % 2 for side in size)
        self._container = av.open(
            f'file:{self._temporary}', 'w', format='mp4', options={'movflags': 'faststart'}
        )
        options = {'crf': '20', 'preset': 'veryfast'}
        self._stream = self._container.add_stream(
            'libx264', Fraction(rate).limit_denominator(1001), options=options
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, 'yuv420p'
        context = self._stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # 16..235, as players expect it
        self._last = -1

    def write(self, image, time_s):
        """Adds a frame that is shown from `time_s` on; times rise."""
        if any(more for _, more in self._margin):
            image = np.pad(image, self._margin, mode='edge')
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        frame = frame.reformat(format='yuv420p', dst_colorspace=1, dst_color_range=1)
        self._last = max(self._last + 1, round(time_s * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None and self._last >= 0:
                self._container.mux(self._stream.encode())
                self._container.close()
                self._temporary.replace(self._path)
        finally:
            try:
                self._container.close()
            finally:  # closing writes, which a full disk refuses
                self._temporary.unlink(missing_ok=True)
