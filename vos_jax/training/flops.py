"""Floating-point operations of a program, counted from its jaxpr, and what a device can do.

XLA's own count takes the body of a loop once, whatever its length; a clip is a loop.
"""

import math
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

# bfloat16, dense, per device as JAX counts them (Google Cloud's and NVIDIA's data sheets).
PEAKS = {
    'TPU v4': 275e12,
    'TPU v5 lite': 197e12,
    'TPU v5e': 197e12,
    'TPU v5': 459e12,
    'TPU v5p': 459e12,
    'TPU v6 lite': 918e12,
    'TPU v6e': 918e12,
    'NVIDIA V100': 125e12,
    'NVIDIA A100': 312e12,
    'NVIDIA H100': 989e12,
    'NVIDIA H200': 989e12,
}

_REPEATED = 'rematted_computation'  # in the names of equations that rematerialisation repeats


class Tally(NamedTuple):
    """What the products of a program take: convolutions and matrix products.

    Attributes:
      needed: operations, a multiplication with addition being two, without those that
        rematerialisation repeats.
      done: with those.
      bytes: operands and results, each once.
      halo_bytes: rows beyond its border that a part of the images would need, for one border.
      halos: number of products that need such rows.
      gathered_bytes: the smaller operand of products between pixels (affinity, reading), of which
        a part of the images needs all.
    """

    needed: float
    done: float
    bytes: float
    halo_bytes: float
    halos: float
    gathered_bytes: float


def count(jaxpr):
    """Operations of a program's products, without repeated ones; see `tally`.

    >>> f = lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, length=5)[0]
    >>> count(jax.make_jaxpr(f)(jnp.ones((10, 10))))
    10000
    """
    return round(tally(jaxpr).needed)


def tally(jaxpr):
    """Adds up the products of a ClosedJaxpr, those whose result nobody uses left out: a Tally.

    JAX names the part of a backward pass that repeats the forward pass (`_REPEATED`): its products
    are done, and not needed. A loop of unknown length counts once.
    """
    live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    rows = [_row(product) for product in products(live)]
    return Tally(*np.sum(rows or [[0.0] * len(Tally._fields)], 0))


class _Product(NamedTuple):
    equation: core.JaxprEqn
    times: int
    is_repeated: bool

    def operations(self):
        is_matrix = self.equation.primitive.name == 'dot_general'
        return self.times * (_of_product if is_matrix else _of_convolution)(self.equation)


def _row(product):
    """What one product adds to a Tally."""
    equation, times, is_repeated = product
    operations = product.operations()
    variables = [*equation.invars, *equation.outvars]
    is_matrix = equation.primitive.name == 'dot_general'
    halo_bytes = 0.0 if is_matrix else _halo_bytes(equation)
    return (
        0.0 if is_repeated else operations,
        operations,
        times * sum(_bytes(variable) for variable in variables),
        times * halo_bytes,
        times * (halo_bytes > 0),
        times * _gathered_bytes(equation) if is_matrix else 0.0,
    )


def products(jaxpr, times=1, is_repeated=False):
    """All products of a program, with those of its parts."""
    for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
        name, params = equation.primitive.name, equation.params
        repeated = is_repeated or _REPEATED in str(equation.source_info.name_stack)
        if name in ('dot_general', 'conv_general_dilated'):
            yield _Product(equation, times, repeated)
            continue
        parts = [part for value in params.values() for part in _jaxprs(value)]
        if name == 'cond' and parts:  # one runs; of those by platform, the plain one takes most
            parts = [max(parts, key=lambda part: sum(p.operations() for p in products(part)))]
        for part in parts:
            yield from products(part, times * params.get('length', 1), repeated)


def _jaxprs(value):
    if hasattr(value, 'eqns') or hasattr(value, 'jaxpr'):
        return [value]
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in _jaxprs(item)]
    return []


def _of_product(equation):
    (contracted, _), _ = equation.params['dimension_numbers']
    left, result = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation):
    params = equation.params
    kernel = equation.invars[1].aval.shape
    # rhs_spec: output features, input features of a group, then space.
    per_value = math.prod(kernel[axis] for axis in params['dimension_numbers'].rhs_spec[1:])
    result = math.prod(equation.outvars[0].aval.shape)
    # Zeros that were put between the values (gradient of a stride) are no work.
    return 2 * result * per_value / math.prod(params['lhs_dilation'])


def _halo_bytes(equation):
    params, image, kernel = equation.params, *(var.aval.shape for var in equation.invars)
    numbers = params['dimension_numbers']
    rows, taps = image[numbers.lhs_spec[2]], kernel[numbers.rhs_spec[2]]
    reach = (taps - 1) * params['rhs_dilation'][0]
    if 2 * taps > rows:  # a weight gradient, which sums over the rows
        return 0
    return min(reach, rows) * _bytes(equation.invars[0]) / rows


def _gathered_bytes(equation):
    (contracted, _), (batch, _) = equation.params['dimension_numbers']
    return min(_bytes(variable) for variable in equation.invars) if batch and contracted else 0


def _bytes(variable):
    return math.prod(variable.aval.shape) * variable.aval.dtype.itemsize


def peak(device):
    """Highest rate of a jax.Device in operations a second, and whether it was measured.

    It is where the device is not in PEAKS, by a float32 matrix product.
    """
    kind = device.device_kind
    for name in sorted(PEAKS, key=len, reverse=True):
        if kind.startswith(name):
            return PEAKS[name], False
    size = 1024
    x = jax.device_put(jnp.ones((size, size)), device)
    multiply = jax.jit(lambda a: a @ a)
    multiply(x).block_until_ready()
    times = []
    for _ in range(5):
        start_s = time.perf_counter()
        multiply(x).block_until_ready()
        times.append(time.perf_counter() - start_s)
    return 2 * size**3 / min(times), True
