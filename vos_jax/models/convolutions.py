"""Two convolutions of CFBI with the parameters of plain ones, computed in a cheaper order."""

import flax.linen as nn
import jax.numpy as jnp

from vos_jax.ops import align
from vos_jax.ops.cpu.atrous import convolve_taps
from vos_jax.ops.cpu.convolution import conv2d


class ResizedConv(nn.Module):
    """3x3 convolution, without bias, of [a map enlarged to the size of another, the other]."""

    features: int
    weights: object = align.linear_weights
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, small, other):
        """small: [N, h', w', C1]; other: [N, h, w, C2] -> [N, h, w, features]."""
        split = small.shape[-1]
        shape = (3, 3, split + other.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        small, other, kernel = nn.dtypes.promote_dtype(small, other, kernel, dtype=self.dtype)
        first = align.convolve_resized(small, kernel[:, :, :split], other.shape[1:3], self.weights)
        return first.astype(other.dtype) + conv2d(other, kernel[:, :, split:])


class AtrousConv(nn.Module):
    """3x3 atrous convolution without bias."""

    features: int
    rate: int
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        """x: [N, h, w, C] -> [N, h, w, features]."""
        kernel = self.param('kernel', self.kernel_init, (3, 3, x.shape[-1], self.features))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        return convolve_taps(x, kernel, self.rate)
