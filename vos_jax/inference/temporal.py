"""The temporal step, written once: training scans over it, inference calls it frame by frame.

A step memorises the previous frame with its masks and then segments the current one. So the last
frame of a clip is never memorised for nothing, and masks given later (a new object, a correction)
are simply written into the previous masks before they are memorised.
"""

from functools import partial

import flax.struct
import jax

from vos_jax.models import protocol


@flax.struct.dataclass
class Previous:
    """The frame before the current one, not yet memorised.

    Attributes:
      frame: u8[B, H, W, 3].
      features: its features.
      masks: protocol.Masks, given or predicted.
      time: i32[B], its number.
    """

    frame: jax.Array
    features: object
    masks: protocol.Masks
    time: jax.Array


def memorise(model, variables, previous, objects, train=False):
    """Entry of the previous frame, and the variables with updated batch statistics."""
    return apply(
        model,
        variables,
        train,
        'memorise',
        previous.frame,
        previous.features,
        previous.masks,
        objects,
        previous.time,
    )


def temporal_step(
    model,
    variables,
    memory,
    previous,
    features,
    objects,
    *,
    position,
    time,
    is_read=True,
    train=False,
):
    """Memorises the previous frame at `position` and segments the current one.

    Args:
      model: module with the methods of `models.protocol`.
      variables: its variables.
      memory: memory of T frames; slot `position` is overwritten.
      previous: the frame before.
      features: of the current frame.
      objects: bool[B, K].
      position: i32 scalar in 0..T-1.
      time: i32[B], number of the current frame.
      is_read: bool scalar, may be traced; whether the current frame reads the previous one.
      train: whether norms use batch statistics.

    Returns:
      prediction, memory, entry of the previous frame, variables (batch statistics updated).
    """
    entry, variables = memorise(model, variables, previous, objects, train)
    shown = entry if is_read is True else entry.replace(valid=entry.valid & is_read)
    memory = protocol.write(memory, shown, position)
    prediction, variables = apply(
        model, variables, train, 'segment', features, memory, objects, time
    )
    return prediction, memory, entry, variables


def apply(model, variables, train, method, *args, dropout=None):
    """Result of a method of the model, and the variables with updated batch statistics."""
    rngs = {} if dropout is None else {'rngs': {'dropout': dropout}}
    call = partial(model.apply, variables, *args, train=train, method=method, **rngs)
    if not train or 'batch_stats' not in variables:
        return call(), variables
    result, updated = call(mutable=['batch_stats'])
    return result, {**variables, **updated}
