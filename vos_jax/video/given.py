"""The masks that a user gives for a video: found and checked before anything is computed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vos_jax.data import listing
from vos_jax.data import masks as mask_files
from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.names import times
from vos_jax.storage.palette import VOID
from vos_jax.video import scaling


@dataclasses.dataclass(frozen=True)
class GivenMasks:
    """Masks by the number of their frame.

    Attributes:
      files: PNG by frame number, rising.
      size: (height, width) of the video.
      binary: masks are in 0/255 form.
      stored_size: that of the frames before they are turned upright.
    """

    files: Mapping[int, Path]
    size: tuple[int, int]
    binary: bool = False
    stored_size: tuple[int, int] | None = None

    @property
    def first(self):
        """Number of the first frame with a mask."""
        return next(iter(self.files))

    def read(self, number):
        """u8[H, W] ids given for a frame, 0 for all else, void too; None where none are given."""
        if number not in self.files:
            return None
        labels = mask_files.read_labels(self.files[number], self.size, binary=self.binary)
        return np.where(labels == VOID, np.uint8(0), labels)

    def check(self, working_size):
        """Reads all masks; gives the ids of all objects, rising.

        Raises:
          InputError: for a mask of another form or size, one without an object, or an object that
            is lost at the size at which the model works.
        """
        found = set()
        for number, path in self.files.items():
            self._check_turn(path)
            labels = self.read(number)
            ids = set(mask_files.object_ids(labels).tolist())
            if not ids:
                why = 'no object in it; draw one, with ids 1..254'
                if np.any(mask_files.read_labels(path) == VOID):
                    why = 'only 0 and 255 (void) in it; if 255 means the object, add --binary'
                raise InputError(f'{path}: {why}')
            small = scaling.shrink_labels(labels, working_size)
            lost = ids - set(mask_files.object_ids(small).tolist())
            if lost:
                raise InputError(
                    f'{path}: object {min(lost)} is too small to be seen at '
                    f'--short_side={min(working_size)}; take a larger one'
                )
            found |= ids
        return sorted(found)

    def identity(self):
        """CRC-32 of each file by the number of its frame, as plain values."""
        return {str(number): f'{checksum.of_file(path):08x}' for number, path in self.files.items()}

    def _check_turn(self, path):
        size = mask_files.read_size(path)
        if size == self.stored_size and size != self.size:
            raise InputError(
                f'{path}: mask of size {times(size)} for frames that are turned upright, to '
                f'{times(self.size)}, as their file says (EXIF or rotation); turn the mask as well'
            )


def find_masks(path, video, chosen, *, binary=False):
    """Finds the masks for a video.

    Args:
      path: one PNG, for the first frame of the range; or a folder with PNGs named as the frames are
        ('00012.png' for frame 12 of a video file, the name of its image in a folder of frames).
      video: of `reader.open_video`.
      chosen: reader.Range that is segmented; masks after its end are left out.
      binary: 255 in the masks means the one object.

    Raises:
      InputError: where there are none, or one belongs to no frame that is segmented.
    """
    path = Path(path)
    if path.is_file():
        return GivenMasks({chosen.start: path}, tuple(video.size), binary, tuple(video.stored_size))
    listing.check_link(path)
    if not path.is_dir():
        raise InputError(f'{path}: no such mask; --masks is a PNG or a folder of PNGs')
    numbered = {}
    for file in listing.list_files(path, ('.png',), timed=False).values():
        number = _number_of(file, video)
        if number in numbered:
            raise InputError(
                f'{path}: {numbered[number].name} and {file.name} are both of frame {number}; '
                'remove one'
            )
        numbered[number] = file
    numbered = {n: numbered[n] for n in sorted(numbered) if chosen.stop is None or n < chosen.stop}
    if not numbered:
        raise InputError(f'{path}: no mask (PNG) in it for the frames to be segmented; draw one')
    for number, file in numbered.items():
        if number not in chosen:
            raise InputError(
                f'{file}: frame {number} is left out by --start={chosen.start} and '
                f'--stride={chosen.stride}; choose frames that include it'
            )
    return GivenMasks(numbered, tuple(video.size), binary, tuple(video.stored_size))


def _number_of(file, video):
    number = video.number_of(file.stem)
    if number is None:
        raise InputError(
            f'{file}: no frame of this name in {video.path}; masks are named as their frames, '
            f'the first is {video.name_of(0)}.png'
        )
    return number
