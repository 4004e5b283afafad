"""A narrow CFBI: what the tests of the model and of its views run on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from vos_jax.models.cfbi.model import CFBI
from vos_jax.models.cfbi.spec import CFBISpec, DeepLabSpec

SPEC = CFBISpec(
    backbone=DeepLabSpec(
        block='basic',
        stem_width=8,
        depths=(1, 1, 1, 1),
        widths=(8, 8, 16, 16),
        channels=16,
        low_channels=8,
        norm='gn',
    ),
    embedding_channels=6,
    prehead_channels=8,
    head_channels=(8, 16, 16),
    windows=(2, 1),
)
SIZE = (30, 50)  # seen as 33 x 49
SLOTS = 3


def build(**changes):
    """The narrow model with other settings."""
    return CFBI(dataclasses.replace(SPEC, **changes))


@functools.cache
def shapes_of(model):
    """Shapes of its variables."""
    frame = jax.ShapeDtypeStruct((1, 33, 49, 3), jnp.uint8)
    masks = jax.ShapeDtypeStruct((1, SLOTS, 33, 49), jnp.float32)
    objects = jax.ShapeDtypeStruct((1, SLOTS), bool)
    return jax.eval_shape(model.init, jax.random.key(0), frame, masks, objects)
