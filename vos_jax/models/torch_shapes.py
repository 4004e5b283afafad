"""Shapes of the variables of our models, without computing any of them."""

import jax
import jax.numpy as jnp

from vos_jax.models.efficientnet_lite import LiteSpec, QueryEncoder
from vos_jax.models.resnet import Encoder


def of_model(model):
    """Nested dict of the shapes of a model's variables (`protocol.Model`)."""
    side = 4 * model.stride
    frames = jnp.zeros((1, side, side, 3), jnp.uint8)
    masks, objects = jnp.zeros((1, 1, side, side)), jnp.ones((1, 1), bool)
    return jax.eval_shape(model.init, jax.random.key(0), frames, masks, objects)


def of_encoder(spec):
    """Nested dict of the shapes of an encoder's variables, under the name 'encoder'."""
    frames = jnp.zeros((1, 64, 64, 3))
    encoder = (QueryEncoder if isinstance(spec, LiteSpec) else Encoder)(spec)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), frames)
    return {collection: {'encoder': tree} for collection, tree in shapes.items()}
