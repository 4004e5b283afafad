"""Floating-point operations of a program, counted from its jaxpr, and what a device can do.

XLA's own count takes the body of a loop once, whatever its length; a clip is a loop.
"""

import math
import time

import jax
import jax.numpy as jnp

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


def count(jaxpr):
    """Operations of the convolutions and matrix products, a multiplication with addition being two.

    Values computed a second time by rematerialisation are left out: of the products in a part that
    is recomputed, forward, recomputed forward and the two of backward, three quarters are needed.

    Args:
      jaxpr: ClosedJaxpr of a train step, `jax.jit(step).trace(...).jaxpr`.

    Returns:
      int. A loop of unknown length counts once.

    >>> f = lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, length=5)[0]
    >>> count(jax.make_jaxpr(f)(jnp.ones((10, 10))))
    10000
    """
    return round(_count(jaxpr))


def _count(jaxpr):
    return sum(_of_equation(equation) for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns)


def _of_equation(equation):
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
        return _of_product(equation)
    if name == 'conv_general_dilated':
        return _of_convolution(equation)
    inner = [_count(part) for value in params.values() for part in _jaxprs(value)]
    if name == 'scan':
        return params['length'] * sum(inner)
    if name == 'cond':  # the branch for this platform, or the dearer one
        return max(inner)
    is_recomputed = params.get('differentiated') and params.get('policy', True) is None
    return sum(inner) * (2 / 3 if is_recomputed else 1)


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
    _, kernel = (var.aval.shape for var in equation.invars)
    numbers = params['dimension_numbers']
    # rhs_spec: output features, input features of a group, then space.
    per_value = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])
    result = math.prod(equation.outvars[0].aval.shape)
    # Zeros that were put between the values (gradient of a stride) are no work.
    return 2 * result * per_value / math.prod(params['lhs_dilation'])


def peak(device):
    """Highest rate of a device in operations a second; measured where it is not in PEAKS.

    Args:
      device: jax.Device.

    Returns:
      float, and whether it was measured (by a float32 matrix product).
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
