"""The frames of a video as JPEG files: read once, from then on any of them at once."""

import threading
from fractions import Fraction
from pathlib import Path

from vos_jax.data import pictures
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.damage import reading
from vos_jax.storage.json_files import read_json, write_json
from vos_jax.video import scaling

LONGEST_PX = 1920
_QUALITY = 92
_INDEX = {
    'identity': dict,
    'size': (int, int),
    'names': [str],
    'times_s': [str],
    'sums': [int],
    'checksum': int,
    'damage': str | None,
}


class FrameStore:
    """Reads a video in a thread of its own into a folder; what is read is there at once.

    Attributes:
      size: (height, width) of the stored frames: those of the video, or scaled to LONGEST_PX.
      names, times_s: of the frames that are there; `damage`: why there are no more, or None.
      is_reading: more are to come.
    """

    def __init__(self, folder, video):
        self._folder, self._video = Path(folder), video
        height, width = video.size
        scale = min(1, LONGEST_PX / max(height, width))
        self.size = (max(1, round(height * scale)), max(1, round(width * scale)))
        self.names, self.times_s, self.damage, self._sums = [], [], None, []
        self._stop, self._lock = threading.Event(), threading.Condition()
        self._thread = threading.Thread(target=self._read, name='frames', daemon=True)
        self.is_reading = not self._restore()
        if self.is_reading:
            self._thread.start()

    @property
    def count(self):
        return len(self.names)

    @property
    def expected(self):
        """Frames that there will be, as far as the video says."""
        return self.count if not self.is_reading else self._video.num_frames

    def data(self, number):
        """JPEG bytes of a frame that is there.

        Raises:
          InputError: where they are not those that were written.
        """
        path = self._path(number)
        with reading(path, 'a frame', f'remove {self._folder} and open the project again'):
            data = path.read_bytes()
            if checksum.of_bytes(data) != self._sums[number]:
                raise ValueError('it differs from its checksum')
        return data

    def image(self, number, size):
        """u8[h, w, 3] of a frame at (height, width)."""
        image = pictures.decode_jpeg(self.data(number))
        return scaling.shrink_image(image, tuple(size))

    def wait_for(self, number, should_stop=lambda: False):
        """Waits until the frame is there; False where it will not come."""
        with self._lock:
            while number >= self.count and self.is_reading and not should_stop():
                self._lock.wait(0.2)
            return number < self.count

    def close(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _path(self, number):
        return self._folder / f'{number:05d}.jpg'

    def _restore(self):
        """Takes up what an earlier session has read to the end."""
        index = self._folder / 'index.json'
        if not index.is_file():
            return False
        try:
            stored = read_json(index, _INDEX)
            with reading(index, 'an index'):
                times_s = [Fraction(time) for time in stored['times_s']]
        except InputError:
            return False  # it is made again
        if stored['identity'] != self._video.identity or tuple(stored['size']) != self.size:
            return False
        if not self._path(len(stored['names']) - 1).is_file():
            return False
        self.names, self.damage, self.times_s = stored['names'], stored['damage'], times_s
        self._sums = stored['sums']
        return True

    def _read(self):
        try:
            for frame in self._video.read():
                if self._stop.is_set():
                    return
                image = scaling.shrink_image(frame.image, self.size)
                data = pictures.encode_jpeg(image, _QUALITY)
                write_bytes(self._path(frame.number), data, sync=False)
                with self._lock:
                    self._sums.append(checksum.of_bytes(data))
                    self.times_s.append(frame.time_s)
                    self.names.append(frame.name)  # now it is there
                    self._lock.notify_all()
        except InputError as error:
            self.damage = str(error)
        except OSError as error:
            self.damage = f'the frames cannot be kept ({error.strerror}); make room and open again'
            return
        finally:
            with self._lock:
                self.is_reading = False
                self._lock.notify_all()
        self._remember()

    def _remember(self):
        index = {'identity': self._video.identity, 'size': self.size, 'names': self.names}
        index |= {'times_s': [str(time) for time in self.times_s], 'damage': self.damage}
        index = checksum.seal(index | {'sums': self._sums})
        write_json(self._folder / 'index.json', index, indent=None)
