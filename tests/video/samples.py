"""Videos and weights that the tests of videos are run on."""

from fractions import Fraction

import av
import jax
import numpy as np

from tests.models import tiny
from vos_jax import recipe, weights
from vos_jax.data import masks
from vos_jax.models import registry

SIZE = (50, 66)


def draw(number, size=SIZE):
    """u8[H, W, 3]: a bright square on a grid of grey that moves right by 2 pixels a frame."""
    height, width = size
    image = np.full((height, width, 3), 60, np.uint8)
    image[::7] = image[:, ::7] = 90
    image[first_mask(size, number) == 1] = (220, 180, 40)
    return image


def first_mask(size=SIZE, number=0):
    """u8[H, W]: object 1 is the square of `draw`, object 5 a patch below."""
    labels = np.zeros(size, np.uint8)
    left = 8 + 2 * number % (size[1] // 2)
    labels[12:28, left : left + 16] = 1
    labels[34:44, 4:20] = 5
    return labels


def write_mask(path, labels=None):
    masks.write_labels(path, first_mask() if labels is None else labels)
    return path


def write_video(path, images, *, times_s=None, rate=25, turn=None, codec='libx264', **options):
    """Writes u8[H, W, 3] images without loss of colour detail, at the times given."""
    images = list(images)
    height, width = images[0].shape[:2]
    with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
        pixels = 'rgb8' if codec == 'gif' else 'yuv444p'
        stream = container.add_stream(codec, rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        ticks = Fraction(1, 100 if codec == 'gif' else 90000)  # GIF counts hundredths
        stream.codec_context.time_base = ticks
        if turn is not None:
            stream.set_display_rotation(turn)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
            time_s = number / Fraction(rate) if times_s is None else times_s[number]
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = round(time_s / ticks), ticks
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_weights(path):
    """Weights of a tiny GIEL by rule; its masks need not be good, but are not empty."""
    settings = recipe.load(
        'configs/giel_small.py:tiny',
        (
            'model.encoder.stem_width=8',
            'model.encoder.depths=(1, 1, 1)',
            'model.encoder.widths=(8, 8, 8)',
            'model.key_channels=8',
            'model.value_channels=8',
            'model.decoder_channels=8',
        ),
    )
    model = registry.build(settings.model)
    arguments = (
        np.zeros((1, 64, 64, 3), np.uint8),
        np.zeros((1, 1, 64, 64), np.float32),
        np.ones((1, 1), bool),
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments)
    weights.export_weights(path, tiny.fill(shapes), settings)
    return path
