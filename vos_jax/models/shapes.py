"""Names, shapes and dtypes of a model's variables, without computing them."""

import functools

import jax
import jax.numpy as jnp

from vos_jax import weights


@functools.lru_cache(maxsize=8)
def variable_shapes(model):
    """Nested dict of ShapeDtypeStructs, as `model.init` gives arrays; a second of tracing."""
    like, side = jax.ShapeDtypeStruct, 4 * model.stride  # variables do not depend on the size
    return jax.eval_shape(
        model.init,
        jax.eval_shape(lambda: jax.random.key(0)),
        like((1, side, side, 3), jnp.uint8),
        like((1, 1, side, side), jnp.float32),
        like((1, 1), bool),
    )


def check_variables(model, variables, where):
    """Refuses variables that are not those of a model; `where` says what they were read from.

    Raises:
      InputError: names the first array that is missing, too much or of another form.
    """
    remedy = 'its config and its arrays are of two models; export it again'
    weights.check(weights.named(variables), weights.named(variable_shapes(model)), where, remedy)
