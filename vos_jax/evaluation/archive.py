"""Packs masks for a server and checks the zip before it is called done."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from vos_jax.data.masks import encode_labels
from vos_jax.errors import InputError
from vos_jax.evaluation.predictions import Predictions
from vos_jax.evaluation.protocols import Protocol, Task
from vos_jax.storage.atomic import replacing
from vos_jax.storage.palette import PALETTE


def write_zip(protocol: Protocol, predictions: Predictions, folder: Path) -> Path:
    """Writes `<protocol>-<split>-<mode>.zip` into `folder`: the masks the server asks for.

    DAVIS wants the sequences at the top of the zip, YouTube-VOS below `Annotations/`. Each mask
    is written with the usual palette, whatever its form was.
    """
    path = Path(folder) / f'{protocol.label}.zip'
    with replacing(path) as temporary:
        # Stored: a PNG is compressed already.
        with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive:
            for name, task, stem in _masks(protocol):
                archive.writestr(name, encode_labels(predictions.read(task, stem)))
        check_zip(temporary, protocol)
    return path


def check_zip(path: Path, protocol: Protocol) -> None:
    """Refuses a zip with other names, sizes, palette or ids than the protocol asks for."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f'{path}: not a zip file ({error}); write it again') from None
    with archive:
        _check_names(archive.namelist(), protocol, path)
        for name, task, _ in _masks(protocol):
            _check_mask(archive.read(name), task, f'{path}: {name}')


def _masks(protocol):
    """(name in the zip, task, frame) of all masks that the server asks for."""
    for task in protocol.tasks:
        for stem in task.sequence.required:
            yield _name(protocol, task, stem), task, stem


def _name(protocol: Protocol, task: Task, stem: str) -> str:
    return f'{protocol.folder_in_zip}{task.name}/{stem}.png'


def _check_names(names, protocol, path):
    wanted = {
        _name(protocol, task, stem) for task in protocol.tasks for stem in task.sequence.required
    }
    missing, strange = sorted(wanted - set(names)), sorted(set(names) - wanted)
    for kind, found in (('is missing', missing), ('does not belong in it', strange)):
        if found:
            raise InputError(
                f'{path}: {found[0]} {kind} ({len(found)} such files); write the zip with --zip'
            )


def _check_mask(data, task, where):
    with Image.open(io.BytesIO(data)) as image:
        size, palette = (image.height, image.width), image.getpalette()
        if image.format != 'PNG' or image.mode != 'P':
            raise InputError(f'{where}: {image.mode} image; servers want indexed PNG')
        labels = np.array(image)
    if size != tuple(task.sequence.size):
        height, width = task.sequence.size
        raise InputError(f'{where}: {size[1]}x{size[0]}, the frame is {width}x{height}')
    if palette != PALETTE.ravel().tolist():
        raise InputError(f'{where}: the palette is not that of the data set')
    extra = np.setdiff1d(np.unique(labels), (0, *task.ids))
    if len(extra):
        raise InputError(f'{where}: id {extra[0]} is no object of {task.name}')
