"""The warp of `data.augment` on the device: the same matrices, the same border."""

import jax
import jax.numpy as jnp


def warp(pixels, matrices, sizes, crop, rows=lambda x, axis: x):
    """Warps frames bilinearly and their labels to the nearest, as OpenCV's warpAffine does.

    Four pixels are read for each of the result, a pixel and its label as one number.

    Args:
      pixels: u32[B, T, H0, W0], a frame at the top left of each; red, green, blue and the label
        are its bytes, red the lowest.
      matrices: f32[B, T, 2, 3], from (x, y, 1) of the result to (x, y) of the frame.
      sizes: i32[B, 2], height and width of a clip's frames, mirrored beyond (BORDER_REFLECT_101).
      crop: (h, w) of the result.
      rows: function of (array, axis), which says where the rows of an array are on the devices.

    Returns:
      u8[B, T, h, w, 3], frames; u8[B, T, h, w], labels.
    """
    y, x = jnp.mgrid[: crop[0], : crop[1]].astype(jnp.float32)
    at = matrices[..., 0, None, None] * x
    at += matrices[..., 1, None, None] * y + matrices[..., 2, None, None]
    at = rows(at, 3)  # [B, T, 2, h, w]
    first = jnp.floor(at)
    share = at - first
    first, extent = first.astype(jnp.int32), sizes[:, None, ::-1, None, None]
    (x0, y0), (x1, y1) = (jnp.moveaxis(_mirrored(first + step, extent), 2, 0) for step in (0, 1))
    x_share, y_share = jnp.moveaxis(share, 2, 0)
    corners = [[_read(pixels, y, x) for x in (x0, x1)] for y in (y0, y1)]
    channels = []
    for shift in (0, 8, 16):
        upper, lower = (
            _between(*(_byte(corner, shift) for corner in line), x_share) for line in corners
        )
        channels.append(jnp.rint(_between(upper, lower, y_share)).astype(jnp.uint8))
    upper, lower = (jnp.where(x_share < 0.5, *line) for line in corners)
    nearest = jnp.where(y_share < 0.5, upper, lower)
    labels = (nearest >> 24).astype(jnp.uint8)
    return rows(jnp.stack(channels, axis=-1), 2), rows(labels, 2)


def _mirrored(index, extent):
    period = jnp.maximum(2 * (extent - 1), 1)
    index = jnp.abs(index) % period
    return jnp.minimum(jnp.minimum(index, period - index), extent - 1)


@jax.vmap
@jax.vmap
def _read(frame, y, x):
    return frame.reshape(-1).at[y * frame.shape[1] + x].get(mode='promise_in_bounds')


def _byte(pixels, shift):
    return ((pixels >> shift) & 255).astype(jnp.float32)


def _between(first, second, share):
    return first + share * (second - first)
