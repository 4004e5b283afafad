import jax
import numpy as np
import pytest

from vos_jax.config.schema import OptimizerSpec
from vos_jax.errors import InputError
from vos_jax.training import optimizer


def learning_rate(name, base, steps, **settings):
    spec = OptimizerSpec(schedule=name, learning_rate=base, **settings)
    return optimizer.learning_rate(spec, steps)


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_constant_stays():
    assert rates(learning_rate('constant', 0.5, 10), [0, 5, 10, 99]) == [0.5] * 4


def test_linear_poly_falls_in_a_straight_line_and_ends_at_zero():
    schedule = learning_rate('poly', 1.0, 4)
    assert rates(schedule, [0, 1, 2, 3, 4, 9]) == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_poly_of_power_and_end():
    schedule = learning_rate('poly', 1.0, 10, power=2.0, end=0.2)
    assert rates(schedule, [5]) == pytest.approx([0.2 + 0.8 * 0.25])


def test_cosine_is_half_way_in_the_middle():
    schedule = learning_rate('cosine', 1.0, 8, end=0.5)
    assert rates(schedule, [0, 4, 8, 99]) == pytest.approx([1.0, 0.75, 0.5, 0.5])


def test_steps_drop_the_rate_one_after_the_other():
    schedule = learning_rate('steps', 1.0, 10, drops=((4, 0.1), (8, 0.5)))
    assert rates(schedule, [0, 3, 4, 7, 8, 99]) == pytest.approx([1, 1, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize(('schedule', 'drops'), [('steps', ()), ('poly', ((4, 0.1),))])
def test_drops_go_with_the_schedule_steps(schedule, drops):
    with pytest.raises(InputError, match=r"'drops' is .*; needed: \(\(step, factor\)"):
        learning_rate(schedule, 1.0, 10, drops=drops)


@pytest.mark.parametrize('warmup', [1, 2, 5])
def test_warmup_rises_in_equal_parts_to_the_full_rate(warmup):
    schedule = learning_rate('constant', 1.0, 10, warmup=warmup)
    expected = [min(1.0, (step + 1) / warmup) for step in range(10)]
    np.testing.assert_allclose(rates(schedule, range(10)), expected, rtol=1e-6)


def test_warmup_multiplies_the_decay_of_all_steps():
    plain = learning_rate('poly', 1.0, 10)
    warm = learning_rate('poly', 1.0, 10, warmup=4)
    np.testing.assert_allclose(rates(warm, [4, 7, 10]), rates(plain, [4, 7, 10]), rtol=1e-6)
    assert rates(warm, [1]) == pytest.approx([0.5 * 0.9])


@pytest.mark.parametrize('name', ['constant', 'cosine', 'poly'])
def test_a_schedule_runs_inside_a_compiled_step(name):
    schedule = learning_rate(name, 0.1, 10, warmup=3)
    np.testing.assert_allclose(jax.jit(schedule)(np.int32(6)), schedule(6), rtol=1e-6)


def test_piecewise_linear_meets_its_points_and_stays_outside():
    value = optimizer.piecewise_linear(((10, 1.0), (20, 3.0), (40, 0.0)))
    assert rates(value, [0, 10, 15, 20, 30, 40, 99]) == [1.0, 1.0, 2.0, 3.0, 1.5, 0.0, 0.0]


def test_piecewise_linear_of_one_point_is_constant():
    assert rates(optimizer.piecewise_linear(((0, 2.0),)), [0, 7]) == [2.0, 2.0]
