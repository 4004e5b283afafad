"""Two convolutions of CFBI, with the parameters of plain ones."""

import flax.linen as nn
import jax.numpy as jnp

from vos_jax.models.layers import kernel_and_bias
from vos_jax.ops import align, convolution


class ResizedConv(nn.Module):
    """3x3 convolution, without bias, of [a map enlarged to the size of another, the other]."""

    features: int
    weights: object = align.linear_weights
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, small, other, norm=None):
        """small: [N, h', w', C1]; other: [N, h, w, C2]; norm: see `layers.Norm` -> [N, h, w, D]."""
        shape = (3, 3, small.shape[-1] + other.shape[-1], self.features)
        kernel, bias = kernel_and_bias(self, self.kernel_init, shape, norm=norm)
        small, other, kernel, bias = nn.dtypes.promote_dtype(
            small, other, kernel, bias, dtype=self.dtype
        )
        y = convolution.resized3x3(small, other, kernel, self.weights)
        return y if bias is None else y + bias


class AtrousConv(nn.Module):
    """3x3 atrous convolution without bias."""

    features: int
    rate: int
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x, norm=None):
        """x: [N, h, w, C]; norm: see `layers.Norm` -> [N, h, w, features]."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel, bias = kernel_and_bias(self, self.kernel_init, shape, norm=norm)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = convolution.atrous3x3(x, kernel, self.rate)
        return y if bias is None else y + bias
