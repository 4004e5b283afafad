"""Made-up weights, video and batches: speed does not depend on what they show."""

import jax
import numpy as np


def fill(shapes, seed=0):
    """Weights of the given shapes: random kernels, norms that change nothing, zero biases.

    Takes a second where compiling `model.init` of a ResNet-50 takes fifteen.

    Args:
      shapes: nested dict of arrays or of their shapes, as `jax.eval_shape` of `init` gives it.
      seed: of the random numbers.

    Returns:
      The same tree of f32 arrays.
    """
    rng = np.random.default_rng(seed)

    def one(path, leaf):
        name = path[-1].key
        if name == 'kernel':
            deviation = np.sqrt(1 / np.prod(leaf.shape[:-1]))
            return deviation.astype(np.float32) * rng.standard_normal(leaf.shape, np.float32)
        return np.full(leaf.shape, name in ('scale', 'var'), np.float32)

    return jax.tree_util.tree_map_with_path(one, shapes)


def variables_of(model, slots, seed=0):
    """Random variables of a model (module with the methods of `contract`)."""
    side = 4 * model.stride
    frames = np.zeros((1, side, side, 3), np.uint8)
    masks = np.zeros((1, slots, side, side), np.float32)
    objects = np.ones((1, slots), bool)
    return fill(jax.eval_shape(model.init, jax.random.key(0), frames, masks, objects), seed)


def make_video(size, num_frames, num_objects, seed=0):
    """A texture that slides by two pixels a frame, and upright rectangles as objects.

    Returns:
      frames u8[T, H, W, 3], masks of the first one u8[H, W] with the ids 1..n.
    """
    height, width = size
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    texture = cells.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    frames = np.stack([np.roll(texture, 2 * t, axis=1) for t in range(num_frames)])
    masks = np.zeros(size, np.uint8)
    column = width // num_objects
    for index in range(num_objects):
        left = index * column
        masks[height // 4 : -(height // 4), left + column // 4 : left + 3 * column // 4] = index + 1
    return frames, masks


def make_batch(batch, length, size, slots, seed=0):
    """A training batch: frames u8[B, T, H, W, 3], labels u8[B, T, H, W], objects bool[B, K]."""
    videos = [make_video(size, length, slots, seed + index) for index in range(batch)]
    return {
        'frames': np.stack([frames for frames, _ in videos]),
        'labels': np.stack([np.stack([masks] * length) for _, masks in videos]),
        'objects': np.ones((batch, slots), bool),
    }
