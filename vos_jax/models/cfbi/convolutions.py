"""Two convolutions of CFBI, with the parameters of plain ones."""

import flax.linen as nn
import jax.numpy as jnp

from vos_jax.ops import align, convolution


class ResizedConv(nn.Module):
    """3x3 convolution, without bias, of [a map enlarged to the size of another, the other]."""

    features: int
    weights: object = align.linear_weights
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, small, other):
        """small: [N, h', w', C1]; other: [N, h, w, C2] -> [N, h, w, features]."""
        shape = (3, 3, small.shape[-1] + other.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        small, other, kernel = nn.dtypes.promote_dtype(small, other, kernel, dtype=self.dtype)
        return convolution.resized3x3(small, other, kernel, self.weights)


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
        return convolution.atrous3x3(x, kernel, self.rate)
