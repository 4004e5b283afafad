"""A procedural data set in the DAVIS layout: no download, no licence, the same for the same seed.

The command is `python -m vos_jax.commands.made_up`.
"""

from pathlib import Path

import numpy as np

from vos_jax.data import clips
from vos_jax.data.frames import write_frame
from vos_jax.data.made_up import scenes
from vos_jax.data.masks import write_labels
from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.json_files import read_json, write_json

RECORD = 'synthetic.json'
_MIN_SHARE = 0.004  # of the image, that an object shows in the first frame


def render_sequence(rng, num_frames, size, max_objects=3):
    """Renders one sequence.

    Args:
      rng: np.random.Generator.
      num_frames: T.
      size: (height, width).
      max_objects: up to N; all are visible in the first frame.

    Returns:
      (frames u8[T, H, W, 3], labels u8[T, H, W]); ids are 1..n.
    """
    scene, keep = _draw_visible(rng, num_frames, size, max_objects)
    frames = np.empty((num_frames, *size, 3), np.uint8)
    labels = np.empty((num_frames, *size), np.uint8)
    for t in range(num_frames):
        frame, shown = scenes.render(scene, t, size)
        frames[t] = scenes.add_noise(rng, frame)
        labels[t] = keep[shown]
    return frames, labels


def write_dataset(
    root, *, num_train, num_val, frames, size, seed, max_objects=3, report=lambda line: None
):
    """Writes a data set in the DAVIS layout.

    The lists are written last, so a half-written set is never taken for a whole one. Where the same
    set is already there, nothing is done.

    Args:
      root: folder to write.
      num_train: training sequences.
      num_val: validation sequences.
      frames: frames of each sequence.
      size: (height, width).
      seed: int, 0 or more.
      max_objects: objects of a sequence, up to N.
      report: called with a line for each sequence.
    """
    root = Path(root)
    record = {
        'sequences': {'train': num_train, 'val': num_val},
        'frames': frames,
        'size': list(size),
        'max_objects': max_objects,
        'seed': seed,
    }
    if _is_there(root, record):
        report(f'{root}: this data set is there already')
        return
    for index in range(num_train + num_val):
        name = _name(index)
        rng = np.random.default_rng([seed, index])
        _write_sequence(root, name, *render_sequence(rng, frames, size, max_objects))
        report(f'{name}: {index + 1} of {num_train + num_val}')
    names = [_name(index) for index in range(num_train + num_val)]
    write_lists(root, {'train': names[:num_train], 'val': names[num_train:]})
    write_json(root / RECORD, record)


def write_lists(root, splits):
    """Writes the lists of a set in the DAVIS layout, the same for both years.

    Args:
      root: Path of the set.
      splits: dict of names of sequences by split.
    """
    for year in ('2016', '2017'):
        for split, names in splits.items():
            text = ''.join(f'{name}\n' for name in names)
            write_bytes(root / 'ImageSets' / year / f'{split}.txt', text.encode())


def _draw_visible(rng, num_frames, size, max_objects):
    """Draws scenes until one shows an object at first; the table gives hidden ones no id."""
    while True:
        scene = scenes.draw_scene(rng, int(rng.integers(1, max_objects + 1)), num_frames)
        _, labels = scenes.render(scene, 0, size)
        visible = np.flatnonzero(clips.count_pixels(labels) >= _MIN_SHARE * labels.size)
        if len(visible):
            keep = np.zeros(256, np.uint8)
            keep[visible] = np.arange(1, len(visible) + 1)
            return scene, keep


def _write_sequence(root, name, frames, labels):
    folder = f'{frames.shape[1]}p'
    for t in range(len(frames)):
        write_frame(root / 'JPEGImages' / folder / name / f'{t:05d}.jpg', frames[t])
        write_labels(root / 'Annotations' / folder / name / f'{t:05d}.png', labels[t])


def _name(index):
    return f'synthetic-{index:04d}'


def _is_there(root, record):
    if not root.exists() or not any(root.iterdir()):
        return False
    if (root / RECORD).is_file():
        if read_json(root / RECORD, dict, 'give another folder') == record:
            return True
        raise InputError(f'{root}: holds a data set of other settings; give another folder')
    if not _is_ours(root):
        raise InputError(f'{root}: holds something else; give another folder')
    return False


def _is_ours(root):
    """Whether only an interrupted run of this program wrote there; it may be written over."""
    names = {path.name for path in root.iterdir()}
    if not names <= {'JPEGImages', 'Annotations', 'ImageSets'}:
        return False
    return all(path.name.startswith('synthetic-') for path in root.glob('JPEGImages/*/*'))
