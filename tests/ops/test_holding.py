import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.ops.cpu.holding import hold


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16])
def test_values_stay_what_they_are(rng, dtype):
    x = rng.normal(size=(2, 3, 5)).astype(dtype)
    x[0, 1, 2], x[1, 0, 0], x[1, 2, 3] = np.inf, -0.0, np.nan
    found = jax.jit(hold)(x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(np.float32), x.astype(np.float32))


def test_an_array_that_begins_with_nan_is_nan():
    assert np.isnan(jax.jit(hold)(np.array([np.nan, 1.0], np.float32))).all()


def test_sums_of_a_chain_are_computed_once(rng):
    """A block has two maxima, all and the first; else each repeats those of the blocks before."""
    weights = rng.normal(size=(6, 64, 64)).astype(np.float32)

    def chain(x, keep):
        for weight in weights:
            x = keep(jnp.maximum(x + x @ weight, 0.0))
        return x

    def num_maxima(keep):
        x = jax.ShapeDtypeStruct((128, 64), np.float32)
        compiled = jax.jit(chain, static_argnums=1).lower(x, keep).compile()
        return compiled.as_text().count(' maximum(')

    assert num_maxima(hold) <= 2 * len(weights)
    assert num_maxima(lambda x: x) > 2 * len(weights)  # else this module is not needed any more
