"""Writes what a project has found: masks in the size of the video, an overlay video, a summary."""

import itertools
import zipfile

import numpy as np

from vos_jax.data import masks as mask_files
from vos_jax.data.clips import count_pixels
from vos_jax.data.overlay import overlay
from vos_jax.errors import InputError
from vos_jax.storage.atomic import replacing
from vos_jax.storage.json_files import write_json
from vos_jax.storage.palette import PALETTE
from vos_jax.video import scaling
from vos_jax.video.writer import VideoWriter

FILES = ('masks.zip', 'overlay.mp4', 'summary.json')


def save_results(project, should_stop):
    """Writes `results/` of a project: masks/, masks.zip, overlay.mp4 and summary.json.

    The video is read again, so the overlay has its size, its times and its quality. Frames without
    a mask are shown as they are.

    Yields:
      Number of each frame that is written; `should_stop` is asked before each.
    """
    if not project.masked:
        raise InputError('no frame has a mask: mark an object first')
    folder = project.folder / 'results'
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:  # of an earlier state
        (folder / name).unlink(missing_ok=True)
    (folder / 'masks').mkdir(exist_ok=True)
    colours = colour_table(project.objects)
    areas = {}

    def is_wanted(frame):
        return frame.number < project.frames.count and not should_stop()

    try:
        with VideoWriter(folder / 'overlay.mp4', project.video.size, project.video.rate) as movie:
            for frame in itertools.takewhile(is_wanted, project.video.read()):
                image, area = _save_mask(project, frame, folder / 'masks', colours)
                areas |= area
                movie.write(image, frame.time_s)
                yield frame.number
            if should_stop():
                raise InputError('saving was stopped; nothing is lost, save again')
    except InputError as error:
        if project.frames.damage is None or str(error) != project.frames.damage:
            raise
    wanted = {folder / 'masks' / f'{name}.png' for name in areas}
    for path in set((folder / 'masks').glob('*.png')) - wanted:
        path.unlink()
    with replacing(folder / 'masks.zip') as temporary, zipfile.ZipFile(temporary, 'w') as archive:
        for path in sorted(wanted):  # stored: PNGs are packed
            archive.write(path, f'masks/{path.name}')
    _write_summary(folder / 'summary.json', project, areas)


def _save_mask(project, frame, folder, colours):
    """Writes the mask of a frame; gives its overlay, and {frame: pixels of each object}."""
    labels = project.mask(frame.number)
    if labels is None:
        return frame.image, {}
    labels = scaling.shrink_labels(labels, project.video.size)
    mask_files.write_labels(folder / f'{frame.name}.png', labels)
    area = count_pixels(labels)[project.ids()].tolist()
    return overlay(frame.image, labels, colours=colours), {frame.name: area}


def colour_table(objects):
    table = np.array(PALETTE)
    for one in objects:
        table[one['id']] = list(bytes.fromhex(one['colour'][1:]))
    return table


def _write_summary(path, project, areas):
    objects = {}
    for index, one in enumerate(project.objects):
        pixels = {name: row[index] for name, row in areas.items()}
        empty = [name for name, count in pixels.items() if not count]
        about = {'name': one['name'], 'colour': one['colour']}
        objects[str(one['id'])] = about | {'area_px': [*pixels.values()], 'empty_frames': empty}
    values = {'video': str(project.video.path), 'frames': [*areas], 'objects': objects}
    values['painted_frames'] = [project.frames.names[n] for n in sorted(project.given)]
    write_json(path, values, indent=None)
