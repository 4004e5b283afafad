import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.ops.convolution import conv2d
from vos_jax.ops.cpu.atrous import convolve_taps


@pytest.mark.parametrize('rate', [1, 2, 4, 6, 9])  # of 5 rows and 7 columns
def test_taps_sum_to_the_convolution(rng, rate):
    x = rng.standard_normal((2, 5, 7, 3), np.float32)
    kernel = rng.standard_normal((3, 3, 3, 2), np.float32)
    expected = conv2d(x, kernel, 1, rate, rate)
    found = jax.jit(convolve_taps, static_argnums=2)(x, kernel, rate)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_are_those_of_the_convolution(rng):
    x = rng.standard_normal((2, 5, 7, 3), np.float32)
    kernel = rng.standard_normal((3, 3, 3, 2), np.float32)

    def gradients(function):
        return jax.jit(jax.grad(lambda *a: jnp.sin(function(*a)).sum(), (0, 1)))(x, kernel)

    found = gradients(lambda x, kernel: convolve_taps(x, kernel, 3))
    expected = gradients(lambda x, kernel: conv2d(x, kernel, 1, 3, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
