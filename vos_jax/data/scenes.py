"""A procedural data set in the DAVIS layout: no download, no licence, the same for the same seed.

Textured, deforming things move, turn and cover each other before a moving camera. Lengths are
fractions of the image's height, times are frames. The command is `vos_jax.commands.made_up`.
"""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from vos_jax.data import clips
from vos_jax.data.frames import write_frame
from vos_jax.data.masks import write_labels
from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.json_files import read_json, write_json

RECORD = 'synthetic.json'
_MIN_SHARE = 0.004  # of the image, that an object shows in the first frame
_TEXTURE_SIZE = 256
_ORDERS = np.arange(1, 6)[:, None]  # of the waves along an outline
_STILL = np.zeros(4)


@dataclasses.dataclass(frozen=True)
class _Motion:
    """Place (x, y), angle and logarithm of the size by time, f64[4] each: drift and slow swing."""

    base: np.ndarray
    drift: np.ndarray
    swing: np.ndarray
    rate: np.ndarray
    phase: np.ndarray

    def pose(self, time):
        """f64[3, 3], from the thing's units to those in which it moves."""
        swing = self.swing * np.sin(self.rate * time + self.phase)
        return _similarity(*(self.base + self.drift * time + swing))


def _draw_motion(rng, base, drift=_STILL, swing=_STILL):
    return _Motion(
        np.array(base, float),
        drift * rng.uniform(-1, 1, 4),
        swing * rng.uniform(0.4, 1, 4),
        2 * np.pi / rng.uniform(14, 40, 4),
        rng.uniform(0, 2 * np.pi, 4),
    )


@dataclasses.dataclass(frozen=True)
class _Thing:
    """An object, or something unlabelled in front of all (`label` 0)."""

    label: int
    texture: np.ndarray  # u8[S, S, 3]
    axes: np.ndarray  # f64[2], half lengths
    depths: np.ndarray  # f64[N, 1], of the waves along its outline
    turns: np.ndarray  # f64[N, 1], radians by which each moves on in a frame
    motion: _Motion

    def outline(self, time):
        """f64[72, 2], points in its own units."""
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        waves = self.depths * np.cos(_ORDERS * angle + self.turns * (time + 10))
        radius = 1 + waves.sum(axis=0)
        return (radius * np.stack([np.cos(angle), np.sin(angle)])).T * self.axes


def _draw_thing(rng, label, base, axes, drift=_STILL, swing=_STILL):
    depths, turns = rng.uniform(0, 0.3, 5) / np.sqrt(1 + np.arange(5)), rng.uniform(-0.25, 0.25, 5)
    motion = _draw_motion(rng, base, drift, swing)
    return _Thing(label, _draw_texture(rng), axes, depths[:, None], turns[:, None], motion)


@dataclasses.dataclass(frozen=True)
class _Scene:
    """What a video shows; things are painted in order, so later ones cover earlier ones."""

    background: np.ndarray  # u8[S, S, 3], covers 2.7 heights of an image
    things: tuple[_Thing, ...]
    camera: _Motion


def _draw_scene(rng, num_objects, num_frames):
    things = []
    for label in range(1, num_objects + 1):
        place = (*rng.uniform([-0.6, -0.3], [0.6, 0.3]), rng.uniform(0, 6), rng.uniform(-2.3, -1.4))
        drift = np.array([0.5, 0.3, 1.0, 0.3]) / num_frames
        axes = rng.uniform([0.9, 0.5], [1.4, 1.0])
        things.append(_draw_thing(rng, label, place, axes, drift, np.array([0.2, 0.1, 0.3, 0.1])))
    if rng.random() < 0.4:  # a post in front of all
        place = (rng.uniform(-0.6, 0.6), 0.5, rng.uniform(-0.3, 0.3), 0)
        things.append(_draw_thing(rng, 0, place, np.array([rng.uniform(0.02, 0.05), 1.5])))
    drift = np.array([0.3, 0.3, 0.0, 0.15]) / num_frames
    camera = _draw_motion(rng, _STILL, drift, np.array([0.12, 0.12, 0.06, 0.08]))
    return _Scene(_draw_background(rng), tuple(things), camera)


def _draw_background(rng):
    """Two kinds of ground, and on them things that never move."""
    size = 972
    ground, field = (cv2.resize(_draw_texture(rng), (size, size)) for _ in range(2))
    border = np.clip((_clouds(rng, size, 4) - 0.5) * 8 + 0.5, 0, 1)[..., None]
    image = (ground + border * (field.astype(float) - ground)).astype(np.uint8)
    labels = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(10, 40)):
        place = (
            *rng.uniform(0, size, 2),
            rng.uniform(0, 6),
            np.log(size * rng.uniform(0.01, 0.05)),
        )
        thing = _draw_thing(rng, 0, place, rng.uniform([0.9, 0.5], [1.4, 1.0]))
        _paint(image, labels, thing, thing.motion.pose(0), 0)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))


def _draw_texture(rng):
    """u8[S, S, 3]: two colours, mixed by clouds, spots or stripes, and grain."""
    size = _TEXTURE_SIZE
    hsv = rng.uniform([0, 10, 50], [180, 150, 230], (2, 3))  # muted more often than bright
    hsv[1, 2] = (hsv[0, 2] + rng.uniform(70, 130)) % 256
    first, second = cv2.cvtColor(hsv.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0].astype(float)
    mix, kind = _clouds(rng, size, rng.integers(3, 9)), rng.integers(3)
    if kind == 1:
        mix = 0.5 + 0.5 * np.tanh(12 * (mix - 0.5))
    elif kind == 2:
        y, x = np.mgrid[:size, :size] / size
        angle = rng.uniform(0, np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y + 0.12 * mix
        mix = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * rng.uniform(2.5, 7) * along))
    grain = 40 * (_clouds(rng, size, 24) - 0.5)
    image = first + mix[..., None] * (second - first) + grain[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _clouds(rng, size, cells):
    """Noise of several octaves, f64[size, size] between 0 and 1."""
    image, weight = np.zeros((size, size)), 1.0
    while cells < size and weight > 0.05:
        grid = rng.random((cells + 2, cells + 2))
        image += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * 0.5
    low, high = np.percentile(image, [1, 99])
    return np.clip((image - low) / (high - low), 0, 1)


def _render(scene, time, size):
    """One frame: u8[H, W, 3] without noise, and labels u8[H, W]."""
    height, width = size
    middle = _similarity((width - 1) / 2, (height - 1) / 2, 0, np.log(height))
    camera = middle @ scene.camera.pose(time)
    frame = _warped(scene.background, camera @ _similarity(-1.35, -1.35, 0, np.log(1 / 360)), size)
    labels = np.zeros(size, np.uint8)
    for thing in scene.things:
        _paint(frame, labels, thing, camera @ thing.motion.pose(time), time)
    return frame, labels


def _paint(frame, labels, thing, pose, time):
    """Paints a thing over a frame and writes its label; pose: its units to pixels."""
    outline = thing.outline(time) @ pose[:2, :2].T + pose[:2, 2]
    cover = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(cover, [np.rint(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    x, y, width, height = cv2.boundingRect(cover)
    if not width:
        return
    box = (slice(y, y + height), slice(x, x + width))
    # The texture is a little wider than the longest axis with its waves.
    to_pixels = pose @ _similarity(-2, -2, 0, np.log(4 / _TEXTURE_SIZE))
    to_pixels[:2, 2] -= (x, y)
    painted = _warped(thing.texture, to_pixels, (height, width)).astype(np.float32)
    weight = cover[box][..., None] / np.float32(255)
    frame[box] = np.rint(frame[box] + weight * (painted - frame[box]))
    labels[box][cover[box] > 127] = thing.label


def _warped(image, pose, size):
    border = cv2.BORDER_REFLECT_101
    return cv2.warpAffine(image, pose[:2], size[::-1], flags=cv2.INTER_LINEAR, borderMode=border)


def _similarity(x, y, angle, log_size):
    cos, sin = np.cos(angle) * np.exp(log_size), np.sin(angle) * np.exp(log_size)
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]], float)


def render_sequence(rng, num_frames, size, max_objects=3):
    """Renders one sequence of up to `max_objects`, all visible in the first frame.

    Returns:
      (frames u8[T, H, W, 3], labels u8[T, H, W]); ids are 1..n.
    """
    scene, keep = _draw_visible(rng, num_frames, size, max_objects)
    frames = np.empty((num_frames, *size, 3), np.uint8)
    labels = np.empty((num_frames, *size), np.uint8)
    for t in range(num_frames):
        frame, shown = _render(scene, t, size)
        frames[t] = np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255)  # grain of a sensor
        labels[t] = keep[shown]
    return frames, labels


def write_dataset(
    root, *, num_train, num_val, frames, size, seed, max_objects=3, report=lambda line: None
):
    """Writes a data set of `num_train` and `num_val` sequences in the DAVIS layout.

    The lists are written last, so a half-written set is never taken for a whole one. Where the same
    set is already there, nothing is done. `report` is called with a line for each sequence.
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
    names = [f'synthetic-{index:04d}' for index in range(num_train + num_val)]
    for index, name in enumerate(names):
        rng = np.random.default_rng([seed, index])
        sequence = zip(*render_sequence(rng, frames, size, max_objects))
        for t, (frame, labels) in enumerate(sequence):
            place = f'{size[0]}p/{name}/{t:05d}'
            write_frame(root / f'JPEGImages/{place}.jpg', frame)
            write_labels(root / f'Annotations/{place}.png', labels)
        report(f'{name}: {index + 1} of {len(names)}')
    write_lists(root, {'train': names[:num_train], 'val': names[num_train:]})
    write_json(root / RECORD, record)


def write_lists(root, splits):
    """Writes the lists of a set in the DAVIS layout, names by split, the same for both years."""
    for year in ('2016', '2017'):
        for split, names in splits.items():
            text = ''.join(f'{name}\n' for name in names)
            write_bytes(root / 'ImageSets' / year / f'{split}.txt', text.encode())


def _draw_visible(rng, num_frames, size, max_objects):
    """Draws scenes until one shows an object at first; the table gives hidden ones no id."""
    while True:
        scene = _draw_scene(rng, int(rng.integers(1, max_objects + 1)), num_frames)
        _, labels = _render(scene, 0, size)
        visible = np.flatnonzero(clips.count_pixels(labels) >= _MIN_SHARE * labels.size)
        if len(visible):
            keep = np.zeros(256, np.uint8)
            keep[visible] = np.arange(1, len(visible) + 1)
            return scene, keep


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
