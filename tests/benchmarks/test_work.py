import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import work


def counted(function, *arrays):
    return work.operations(jax.make_jaxpr(function)(*arrays).jaxpr)


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    def twice(x):
        return lax.fori_loop(0, 2, lambda _, y: jnp.sort(y), x)

    found = counted(lambda x: lax.scan(lambda y, _: (twice(y), None), x, length=5)[0], jnp.ones(3))
    assert (found['sort'], found['steps'], found['unknown']) == (10, 5 + 10, 0)


def test_a_loop_whose_length_the_data_tell_is_unknown():
    found = counted(lambda n, x: lax.fori_loop(0, n, lambda _, y: jnp.sort(y), x), 3, jnp.ones(3))
    assert (found['sort'], found['steps'], found['unknown']) == (1, 0, 1)


def test_of_what_platforms_do_that_of_accelerators_counts():
    def sorted_on_cpus(x):
        return lax.platform_dependent(x, cpu=jnp.sort, default=lambda x: x)

    assert counted(sorted_on_cpus, jnp.ones(3))['sort'] == 0
