import jax
import numpy as np
import pytest
from jax import lax

from vos_jax.ops.convolution import conv2d, pointwise
from vos_jax.ops.cpu import winograd

# batch, height, width, channels, output channels, kernel size, stride, padding, dilation
CASES = {
    'one image': (1, 6, 7, 2, 3, 3, 1, 1, 1),
    'fewer outputs': (2, 6, 7, 3, 2, 3, 1, 1, 1),
    'no padding': (1, 6, 7, 3, 2, 3, 1, 0, 1),
    'five images, stride 2': (5, 7, 8, 40, 3, 3, 2, 1, 1),
    'more than 16 large images, not divisible': (19, 25, 24, 2, 24, 3, 1, 1, 1),
    'large, stride 2': (2, 50, 49, 2, 24, 3, 2, 1, 1),
    'a stem': (2, 12, 10, 2, 3, 7, 2, 3, 1),
    'dilated': (3, 9, 8, 2, 3, 3, 1, 2, 2),
    'dilated, fewer outputs, wide': (3, 9, 8, 40, 36, 3, 1, 2, 2),
    "Winograd's, parts of tiles, two bands": (3, 66, 78, 64, 64, 3, 1, 1, 1),
}


def plain(x, kernel, stride, padding, dilation):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


@pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())
def test_output_and_both_gradients_are_those_of_lax(rng, case):
    batch, height, width, channels, outputs, size, *settings = case
    x = rng.standard_normal((batch, height, width, channels), np.float32)
    kernel = rng.standard_normal((size, size, channels, outputs), np.float32)

    def gradients(convolve):
        def loss(x, kernel):
            y = convolve(x, kernel, *settings)
            return (y * jax.numpy.sin(y)).sum(), y  # a cotangent that differs everywhere

        function = jax.value_and_grad(loss, (0, 1), has_aux=True)
        (_, y), (by_x, by_kernel) = jax.jit(function)(x, kernel)
        return y, by_x, by_kernel

    for found, expected in zip(gradients(conv2d), gradients(plain), strict=True):
        # Sums of up to 19 * 25 * 24 products in another order.
        np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


def test_gradients_of_1x1_are_those_of_a_product(rng):
    x = rng.standard_normal((2, 3, 4, 5, 6), np.float32)
    kernel = rng.standard_normal((6, 7), np.float32)

    def loss(convolve):
        return lambda x, kernel: jax.numpy.sin(convolve(x, kernel)).sum()

    found = jax.jit(jax.grad(loss(pointwise), (0, 1)))(x, kernel)
    for ours, expected in zip(found, jax.grad(loss(jax.numpy.matmul), (0, 1))(x, kernel)):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize('size', [(32, 36), (33, 38), (66, 160)])
def test_wide_kernels_give_what_lax_gives(rng, size):
    """They take Winograd's way on CPUs; whole tiles, parts of tiles, several bands."""
    x = rng.standard_normal((2, *size, 64), np.float32)
    kernel = rng.standard_normal((3, 3, 64, 64), np.float32)
    assert winograd.pays(x, kernel, (1, 1, 1))
    found = jax.jit(conv2d)(x, kernel)
    expected = plain(x, kernel, 1, 1, 1)
    # Float32: 576 products of the order of 1 each.
    np.testing.assert_allclose(found, expected, atol=3e-6 * abs(expected).max())


def test_winograd_of_whole_numbers_gives_whole_numbers(rng):
    x = rng.integers(-3, 4, (1, 6, 9, 2)).astype(np.float32)
    kernel = rng.integers(-3, 4, (3, 3, 2, 3)).astype(np.float32)
    found = np.asarray(jax.jit(winograd.conv3x3)(x, kernel))
    expected = plain(x, kernel, 1, 1, 1)
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert (np.round(found) == expected).all()
