import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vos_jax.ops.convolution import depthwise

# batch, height, width, kernel size, stride, dilation
CASES = {
    '3x3': (2, 6, 7, 3, 1, 1),
    '3x3, stride 2, even': (2, 8, 10, 3, 2, 1),
    '3x3, stride 2, odd': (1, 7, 9, 3, 2, 1),
    '3x3, dilated': (2, 9, 8, 3, 1, 2),
    '5x5, stride 2': (3, 12, 9, 5, 2, 1),
    '5x5, dilated': (1, 9, 11, 5, 1, 2),
    '7x7, larger than the image': (1, 4, 5, 7, 1, 1),
    '5x5, stride 3, dilated': (1, 13, 14, 5, 3, 2),
    'stride larger than the kernel': (1, 9, 10, 1, 2, 1),
}


def of_lax(x, kernel, stride, dilation):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        'SAME',
        rhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())
def test_output_and_both_gradients_are_those_of_lax(rng, case):
    batch, height, width, size, *settings = case
    x = rng.standard_normal((batch, height, width, 6), np.float32)
    kernel = rng.standard_normal((size, size, 6), np.float32)

    def gradients(convolve):
        def loss(x, kernel):
            y = convolve(x, kernel, *settings)
            return (y * jnp.sin(y)).sum(), y  # a cotangent that differs everywhere

        (_, y), (by_x, by_kernel) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
            x, kernel
        )
        return y, by_x, by_kernel

    for found, expected in zip(gradients(depthwise), gradients(of_lax), strict=True):
        assert found.shape == expected.shape
        # Sums of up to 25 * 108 products in another order.
        np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


def test_the_dtype_is_kept(rng):
    x = jnp.asarray(rng.standard_normal((1, 6, 6, 4)), jnp.bfloat16)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 4)), jnp.bfloat16)
    y, pull = jax.vjp(depthwise, x, kernel)
    assert {y.dtype, *(gradient.dtype for gradient in pull(y))} == {jnp.dtype('bfloat16')}


def test_the_gradient_keeps_no_shifts(rng):
    """25 shifts of an image are 25 times its memory."""
    x = rng.standard_normal((1, 16, 16, 8), np.float32)
    kernel = rng.standard_normal((5, 5, 8), np.float32)
    _, pull = jax.vjp(depthwise, x, kernel)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pull))
    assert kept <= x.size + kernel.size
