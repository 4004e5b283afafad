"""The cells over an image: padding to whole cells, which cells count, and the way back."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from vos_jax.ops import resize


@dataclasses.dataclass(frozen=True)
class Grid:
    """Cells of `stride` pixels over an image that is padded to whole cells."""

    size: tuple  # (H, W) of the image
    stride: int  # pixels per cell and side
    centred: bool = False  # whether the padding is shared between both ends, or all at the end

    @property
    def margins(self):
        """Pixels that are added before and after, for both axes.

        >>> Grid((5, 8), 4).margins, Grid((5, 8), 4, centred=True).margins
        ([(0, 3), (0, 0)], [(1, 2), (0, 0)])
        """
        missing = [-side % self.stride for side in self.size]
        return [(n // 2, n - n // 2) if self.centred else (0, n) for n in missing]

    def pad(self, x, axes):
        """Pads the image axes (rows, columns) of `x` with zeros; `x` itself if none are needed."""
        widths = [(0, 0)] * x.ndim
        for axis, margin in zip(axes, self.margins, strict=True):
            widths[axis] = margin
        return jnp.pad(x, widths) if any(map(any, widths)) else x

    def crop(self, x):
        """The image of padded maps: [..., H', W'] -> [..., H, W]."""
        (top, _), (left, _) = self.margins
        return x[..., top : top + self.size[0], left : left + self.size[1]]

    def valid(self):
        """bool[P]: cells whose centre is image, and the first ones of a smaller image."""
        inside = []
        for side, (before, after) in zip(self.size, self.margins, strict=True):
            corners = np.arange(-before, side + after, self.stride)
            centres = corners + self.stride / 2
            inside.append(((centres >= 0) & (centres <= side)) | (corners == -before))
        return (inside[0][:, None] & inside[1][None]).reshape(-1)

    def to_image(self, maps):
        """Enlarges maps f32[B, K, h, w, 1] bilinearly and crops them: f32[B, K, H, W]."""
        batch, slots, height = maps.shape[:3]
        padded = self.size[0] + sum(self.margins[0])
        x = resize.upsample(maps.reshape(batch * slots, *maps.shape[2:]), padded // height)
        return self.crop(x.reshape(batch, slots, *x.shape[1:3]))
