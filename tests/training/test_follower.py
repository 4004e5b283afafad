import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.training.log import AHEAD, Follower


def test_steps_come_back_in_their_order():
    with Follower() as follower:
        for step in range(1, 6):
            follower.give(step, {'loss': jnp.float32(step)})
        found = follower.finished(wait=True)
    assert [(f.step, f.metrics['loss']) for f in found] == [(s, float(s)) for s in range(1, 6)]
    assert all(f.device_s >= 0 for f in found)
    assert follower.finished() == []


def slow(x):
    time.sleep(0.2)
    return x


def test_the_loop_runs_ahead_by_two_steps_at_most():
    step = jax.jit(lambda x: jax.pure_callback(slow, x, x))
    value = np.float32(1)
    jax.block_until_ready(step(value))
    with Follower() as follower:
        for index in range(1, AHEAD + 3):
            value = step(value)
            follower.give(index, {'loss': value})
        assert len(follower.finished()) >= 1
        follower.finished(wait=True)


def test_an_error_of_the_device_is_raised_where_the_steps_are_given():
    def fail(x):
        raise ValueError('broken')

    step = jax.jit(lambda x: jax.pure_callback(fail, x, x))
    with Follower() as follower, pytest.raises(Exception, match='broken'):  # noqa: PT012
        follower.give(1, {'loss': step(np.float32(1))})
        follower.finished(wait=True)
