import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.ops.convolution import conv2d
from vos_jax.planning import hlo
from vos_jax.training import flops
from vos_jax.training.unroll import recomputed


def ops_of(function, *arguments):
    return flops.count(jax.make_jaxpr(function)(*arguments))


def test_a_convolution_worked_out_by_hand():
    image, kernel = jnp.ones((2, 8, 6, 3)), jnp.ones((3, 3, 3, 5))
    # 2 images of 4 x 3 results, 5 features of 27 products each.
    assert ops_of(lambda x, k: conv2d(x, k, 2), image, kernel) == 2 * 2 * 4 * 3 * 5 * 27


def test_a_gradient_takes_twice_the_work_of_its_forward_pass():
    x, w = jnp.ones((4, 8)), jnp.ones((8, 6))
    forward = 2 * 4 * 8 * 6
    loss = lambda w, x: jnp.sin(x @ w).sum()  # noqa: E731
    assert ops_of(jax.grad(loss, argnums=(0, 1)), w, x) == 3 * forward


def test_what_nobody_uses_is_no_work():
    x = jnp.ones((4, 4))
    assert ops_of(lambda x: (x @ x, (x @ x) @ x)[0], x) == 2 * 4**3


def test_recomputed_products_are_not_needed_ones():
    w, x = jnp.ones((8, 8)), jnp.ones((4, 8))
    body = lambda x, w: jnp.sin(jnp.sin(x @ w) @ w)  # noqa: E731
    plain = jax.value_and_grad(lambda w, x: body(x, w).sum(), argnums=(0, 1))
    again = jax.value_and_grad(lambda w, x: jax.checkpoint(body)(x, w).sum(), argnums=(0, 1))
    expected = flops.tally(jax.make_jaxpr(plain)(w, x))
    found = flops.tally(jax.make_jaxpr(again)(w, x))
    assert expected.needed == expected.done == found.needed
    np.testing.assert_allclose(found.done, expected.done * 4 / 3)


CHAIN = jnp.ones((4, 3, 3, 24, 24)), jnp.ones((2, 64, 64, 24))  # kernels, images


def gradient_of_chain(remat):
    """Function (kernels, x) -> loss and gradients of four convolutions, one after the other."""

    def layer(x, kernel):
        return jnp.sin(conv2d(x, kernel))

    layer = layer if remat == 'none' else recomputed(layer, remat)

    def loss(kernels, x):
        for kernel in kernels:
            x = layer(x, kernel)
        return x.sum()

    return jax.value_and_grad(loss, argnums=(0, 1))


@pytest.mark.parametrize('remat', ['none', 'products', 'full'])
def test_the_needed_work_of_convolutions_is_what_xla_counts(remat):
    # Their gradients take twice the work of the convolutions.
    needed = 3 * 4 * (2 * 2 * 64 * 64 * 24 * 24 * 9)
    assert ops_of(gradient_of_chain(remat), *CHAIN) == needed
    compiled = jax.jit(gradient_of_chain('none')).lower(*CHAIN).compile()
    # XLA leaves out products with the zeros around an image, and counts the sines.
    np.testing.assert_allclose(needed, compiled.cost_analysis()['flops'], rtol=0.05)


@pytest.mark.parametrize(('remat', 'count'), [('none', 12), ('products', 12), ('full', 16)])
def test_only_a_full_recomputation_repeats_convolutions(remat, count):
    jaxpr = jax.make_jaxpr(gradient_of_chain(remat))(*CHAIN)
    assert flops.tally(jaxpr).done == count * (2 * 2 * 64 * 64 * 24 * 24 * 9)


def test_only_one_branch_counts():
    x = jnp.ones((4, 4))
    branch = lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)  # noqa: E731
    assert ops_of(branch, x) == 2 * 2 * 4**3


HLO = """
%body (p: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %permuted = f32[4,2]{1,0} collective-permute(%x), source_target_pairs={{0,1}}
}

%cond (p: (s32[], f32[4,2])) -> pred[] {
  %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: f32[4,2]) -> f32[4,2] {
  %w = (f32[4,2]) while(%t), condition=%cond, body=%body, config={"known_trip_count":{"n":"5"}}
  %g = (bf16[4,8]{1,0}, bf16[8,8]{1,0}) all-gather-start(%y), dimensions={0}
  %d = bf16[8,8]{1,0} all-gather-done(%g)
  %r = (f32[10]{0}, f32[2,3]{1,0}) all-reduce(%a, %b), to_apply=%add
  %rs = (f32[10]{0}, f32[2,3]{1,0}) all-reduce-start(%a, %b), to_apply=%add
  %ps = (f32[9]{0}, f32[9]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%c)
  %gs = ((f32[4], f32[2]), (f32[8], f32[4])) all-gather-start(%e, %f), dimensions={0}
}
"""


def test_collectives_of_loops_count_as_often_as_they_run():
    found = hlo.collectives(HLO)
    assert found['collective-permute'] == [6, 5 * 32 + 36]
    assert found['all-gather'] == [2, 128 + 48]
    assert found['all-reduce'] == [2, 2 * 64]


def test_products_that_need_rows_of_their_neighbours_are_counted():
    x, wide, narrow = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4)), jnp.ones((1, 1, 4, 4))

    def convolve(x, kernel):
        numbers = ('NHWC', 'HWIO', 'NHWC')
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=numbers)

    def clip(x):
        return jax.lax.scan(lambda x, _: (convolve(convolve(x, wide), narrow), None), x, length=5)

    assert flops.tally(jax.make_jaxpr(clip)(x)).halos == 5
