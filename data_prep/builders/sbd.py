"""The Semantic Boundaries Dataset: masks in Matlab files."""

import dataclasses
import io
from typing import Any

import numpy as np

from vos_jax.data.png import encode_plain
from vos_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SbdMask:
    """Instances of one image: the array GTinst.Segmentation of a file below inst."""

    file: Any

    def __str__(self):
        return str(self.file)

    def read(self):
        """The mask as bytes of a PNG."""
        from scipy import io as matlab  # slow to load, and only this data set needs it

        try:
            content = matlab.loadmat(io.BytesIO(self.file.read()), squeeze_me=True)
            labels = np.asarray(content['GTinst']['Segmentation'].item())
            if labels.ndim != 2 or labels.max() > 254:
                raise ValueError(f'array of shape {labels.shape}, largest id {labels.max()}')
        except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
            raise InputError(f'{self}: no instances of SBD ({error}); download it again') from None
        return encode_plain(labels.astype(np.uint8))
