"""Procedural video: textured, deforming objects that move, turn and cover each other.

A scene is a function of its random numbers and of time. Its world is a plane seen by a moving
camera; lengths are fractions of the image's height, times are frames.
"""

import dataclasses

import cv2
import numpy as np

_SUBPIXEL_BITS = 4
_OUTLINE_POINTS = 72
_TEXTURE_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Wave:
    """A smooth function of time: a drift and a few slow oscillations around a base."""

    base: np.ndarray
    drift: np.ndarray
    swing: np.ndarray  # [3, ...]
    rate: np.ndarray  # [3], radians per frame
    phase: np.ndarray  # [3, ...]

    def __call__(self, time):
        angle = self.phase + (self.rate * time).reshape(-1, *[1] * np.ndim(self.base))
        return self.base + self.drift * time + (self.swing * np.sin(angle)).sum(axis=0)


def draw_wave(rng, base, swing, drift=0.0, period=24):
    """Draws a wave around `base`; swing is its largest deviation, drift its largest slope."""
    base = np.asarray(base, float)
    share = np.array([0.55, 0.3, 0.15]).reshape(3, *[1] * base.ndim)
    return Wave(
        base,
        drift * rng.uniform(-1, 1, base.shape),
        swing * share * rng.uniform(0.4, 1, (3, *base.shape)),
        2 * np.pi / (period * rng.uniform(0.7, 2, 3) / np.array([1, 2, 3.5])),
        rng.uniform(0, 2 * np.pi, (3, *base.shape)),
    )


@dataclasses.dataclass(frozen=True)
class Part:
    """A textured outline: one limb or the body of an object."""

    texture: np.ndarray  # u8[S, S, 3]
    ripples: np.ndarray  # [N], depth of the outline's ripples
    ripple: Wave  # [N], their phases
    axes: Wave  # [2], half lengths in units of the object
    joint: np.ndarray  # [2], where it hangs on the object
    swing: Wave  # its angle

    def outline(self, time):
        """[N, 2], points in units of the part."""
        angle = np.linspace(0, 2 * np.pi, _OUTLINE_POINTS, endpoint=False)
        order = np.arange(2, 2 + len(self.ripples))
        waves = self.ripples * np.cos(order * angle[:, None] + self.ripple(time))
        radius = 1 + waves.sum(axis=1)
        return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def pose(self, time):
        """[3, 3], units of the part to units of the object."""
        turned = _similarity(self.swing(time), 1.0, self.joint)
        return turned @ np.diag([*np.maximum(self.axes(time), 0.05), 1.0])


@dataclasses.dataclass(frozen=True)
class Thing:
    """An object, or something unlabelled in front of all (`label` 0)."""

    label: int
    parts: tuple[Part, ...]
    position: Wave  # [2]
    angle: Wave
    size: Wave

    def pose(self, time):
        """[3, 3], units of the object to the world."""
        return _similarity(self.angle(time), max(self.size(time), 0.02), self.position(time))


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a video shows; things are painted in order, so later ones cover earlier ones."""

    background: np.ndarray  # u8[h, w, 3], covers the world from -1 to 1 times `reach`
    reach: float
    things: tuple[Thing, ...]
    shift: Wave  # of the camera, [2]
    roll: Wave
    zoom: Wave
    light: Wave


def draw_scene(rng, num_objects, num_frames):
    """Draws a scene.

    Args:
      rng: np.random.Generator.
      num_objects: labelled objects, labels 1..num_objects.
      num_frames: length of the video; keeps the drifts in bounds.
    """
    reach = 2.7
    places = _spread(rng, num_objects)
    things = [_draw_object(rng, i + 1, places[i], num_frames) for i in range(num_objects)]
    rng.shuffle(things)
    if rng.random() < 0.4:
        things.append(_draw_post(rng))
    return Scene(
        _draw_background(rng, reach),
        reach,
        tuple(things),
        shift=draw_wave(rng, np.zeros(2), 0.12, 0.3 / num_frames, period=40),
        roll=draw_wave(rng, 0.0, 0.06, period=40),
        zoom=draw_wave(rng, 1.0, 0.08, 0.15 / num_frames, period=50),
        light=draw_wave(rng, 1.0, 0.08, period=30),
    )


def render(scene, time, size):
    """Renders one frame.

    Args:
      scene: Scene.
      time: frame number.
      size: (height, width).

    Returns:
      (frame u8[H, W, 3] without noise, labels u8[H, W]).
    """
    camera = _camera(scene, time, size)
    frame = _lay_background(scene, camera, size)
    labels = np.zeros(size, np.uint8)
    for thing in scene.things:
        pose = camera @ thing.pose(time)
        for part in thing.parts:
            _paint(frame, labels, part, pose @ part.pose(time), time, thing.label)
    light = float(scene.light(time))
    return cv2.convertScaleAbs(frame, alpha=light), labels


def add_noise(rng, frame, sigma=2.0):
    """Adds the grain of a sensor to u8[H, W, 3]."""
    noise = rng.normal(0, sigma, frame.shape).astype(np.float32)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def draw_texture(rng, size=_TEXTURE_SIZE):
    """Draws a texture u8[S, S, 3]: colours mixed by clouds, stripes, spots or checks."""
    colours = _draw_colours(rng)
    kind = rng.choice(['clouds', 'stripes', 'spots', 'checks'])
    clouds = _clouds(rng, size, rng.integers(3, 9))
    y, x = np.mgrid[:size, :size] / size
    angle, count = rng.uniform(0, np.pi), rng.uniform(2.5, 7)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    if kind == 'stripes':
        mix = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * count * (along + 0.12 * clouds)))
    elif kind == 'spots':
        mix = 0.5 + 0.5 * np.tanh(12 * (_clouds(rng, size, int(count) + 2) - 0.55))
    elif kind == 'checks':
        wave = np.sin(2 * np.pi * count * along) * np.sin(2 * np.pi * count * across)
        mix = 0.5 + 0.5 * np.tanh(6 * wave)
    else:
        mix = clouds
    image = colours[0] + mix[..., None] * (colours[1] - colours[0])
    image += 0.35 * (_clouds(rng, size, 24)[..., None] - 0.5) * colours[2]
    return np.clip(image, 0, 255).astype(np.uint8)


def _draw_object(rng, label, place, num_frames):
    texture = draw_texture(rng)
    limbs = [_draw_part(rng, _shade(rng, texture), limb=True) for _ in range(rng.integers(0, 4))]
    body = _draw_part(rng, texture, limb=False)
    return Thing(
        label,
        (*limbs, body),
        position=draw_wave(rng, place, 0.22, 0.45 / num_frames, period=30),
        angle=draw_wave(rng, rng.uniform(0, 2 * np.pi), 0.3, 0.02, period=24),
        size=draw_wave(rng, rng.uniform(0.09, 0.24), 0.02, 0.04 / num_frames, period=30),
    )


def _draw_part(rng, texture, *, limb):
    axes = rng.uniform([0.7, 0.15], [1.2, 0.3]) if limb else rng.uniform([0.8, 0.45], [1.4, 1.0])
    turn = rng.uniform(0, 2 * np.pi)
    joint = 0.7 * np.array([np.cos(turn), np.sin(turn)]) if limb else np.zeros(2)
    num_ripples = 2 if limb else 4
    return Part(
        texture,
        rng.uniform(0, 0.14, num_ripples) / np.arange(1, num_ripples + 1) ** 0.5,
        draw_wave(rng, rng.uniform(0, 2 * np.pi, num_ripples), 0.9, 0.03, period=24),
        draw_wave(rng, axes, 0.06, period=20),
        joint,
        draw_wave(rng, turn if limb else 0.0, 0.5 if limb else 0.0, period=16),
    )


def _draw_post(rng):
    """Something that stands in front of all objects and belongs to the background."""
    post = Part(
        draw_texture(rng),
        np.zeros(1),
        draw_wave(rng, np.zeros(1), 0.0),
        draw_wave(rng, np.array([rng.uniform(0.02, 0.05), 1.5]), 0.0),
        np.zeros(2),
        draw_wave(rng, 0.0, 0.0),
    )
    place = np.array([rng.uniform(-0.6, 0.6), 0.5])
    angle = rng.uniform(-0.3, 0.3)
    still = (draw_wave(rng, place, 0.0), draw_wave(rng, angle, 0.0), draw_wave(rng, 1.0, 0.0))
    return Thing(0, (post,), *still)


def _draw_background(rng, reach):
    size = int(360 * reach)
    # Large patches of ground first, then things that lie about and never move.
    image = cv2.resize(draw_texture(rng), (size, size), interpolation=cv2.INTER_CUBIC)
    field = cv2.resize(draw_texture(rng), (size, size), interpolation=cv2.INTER_CUBIC)
    border = np.clip((_clouds(rng, size, 4) - 0.5) * 8 + 0.5, 0, 1)[..., None]
    image = (image + border * (field.astype(float) - image)).astype(np.uint8)
    labels = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(10, 40)):
        part = _draw_part(rng, draw_texture(rng, 96), limb=False)
        place = _similarity(
            rng.uniform(0, 2 * np.pi), size * rng.uniform(0.01, 0.06), rng.uniform(0, size, 2)
        )
        _paint(image, labels, part, place @ part.pose(0), 0, 0)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))


def _lay_background(scene, camera, size):
    half = scene.background.shape[0] / 2
    to_world = _similarity(0.0, scene.reach / 2 / half, np.full(2, -scene.reach / 2))
    return cv2.warpAffine(
        scene.background,
        (camera @ to_world)[:2],
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _paint(frame, labels, part, pose, time, label):
    """Paints a part over a frame and writes its label; pose: units of the part to pixels."""
    outline = part.outline(time) @ pose[:2, :2].T + pose[:2, 2]
    points = np.rint(outline * 2**_SUBPIXEL_BITS).astype(np.int32)
    cover = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(cover, [points], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    x, y, width, height = cv2.boundingRect(cover)
    if not width:
        return
    box = (slice(y, y + height), slice(x, x + width))
    # The texture reaches a little over the unit circle, since ripples do.
    scale = 2.8 / part.texture.shape[0]
    to_pixels = pose @ _similarity(0.0, scale, np.full(2, -1.4))
    to_pixels[:2, 2] -= (x, y)
    painted = cv2.warpAffine(
        part.texture,
        to_pixels[:2],
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    weight = cover[box][..., None] / np.float32(255)
    frame[box] = np.rint(frame[box] + weight * (painted.astype(np.float32) - frame[box]))
    labels[box][cover[box] > 127] = label


def _camera(scene, time, size):
    """[3, 3], world to pixels."""
    height, width = size
    view = _similarity(scene.roll(time), height * scene.zoom(time), np.zeros(2))
    move = _similarity(0.0, 1.0, -scene.shift(time))
    middle = _similarity(0.0, 1.0, np.array([(width - 1) / 2, (height - 1) / 2]))
    return middle @ view @ move


def _similarity(angle, scale, shift):
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]], float)


def _spread(rng, count):
    """Places for objects, [count, 2], not too near each other as far as there is room."""
    places = [rng.uniform([-0.6, -0.3], [0.6, 0.3])]
    while len(places) < count:
        offers = rng.uniform([-0.6, -0.3], [0.6, 0.3], (6, 2))
        away = np.linalg.norm(offers[:, None] - np.array(places), axis=-1).min(axis=1)
        places.append(offers[np.argsort(away)[rng.integers(2, 6)]])
    return places


def _draw_colours(rng):
    """Three RGB colours as f64[3, 3]: muted more often than bright, the first two well apart."""
    hsv = rng.uniform([0, 10, 50], [180, 150, 230], (3, 3))
    hsv[1, 2] = (hsv[0, 2] + rng.uniform(70, 130)) % 256
    rgb = cv2.cvtColor(np.rint(hsv).astype(np.uint8)[None], cv2.COLOR_HSV2RGB)
    return rgb[0].astype(float)


def _shade(rng, texture):
    return cv2.convertScaleAbs(texture, alpha=rng.uniform(0.6, 1.1))


def _clouds(rng, size, cells):
    """Noise of several octaves, f64[size, size] between 0 and 1."""
    image, weight = np.zeros((size, size)), 1.0
    while cells < size and weight > 0.05:
        grid = rng.random((cells + 2, cells + 2))
        image += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * 0.5
    low, high = np.percentile(image, [1, 99])
    return np.clip((image - low) / (high - low), 0, 1)
