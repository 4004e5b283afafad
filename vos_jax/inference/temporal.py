"""The temporal step, written once: training scans over it, inference calls it frame by frame.

A step memorises the previous frame with its masks and then segments the current one. So the last
frame of a clip is never memorised for nothing, and masks given later (a new object, a correction)
are simply written into the previous masks before they are memorised.
"""

from functools import partial

from vos_jax.inference.program.vos_loader.video import Previous
from vos_jax.models import protocol

__all__ = ['Previous', 'apply', 'memorise', 'temporal_step']


def memorise(model, variables, previous, objects, train=False):
    """Entry of the frame before (Previous), and the variables with updated batch statistics."""
    frame, features, masks, time = previous
    return apply(model, variables, train, 'memorise', frame, features, masks, objects, time)


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
      previous: Previous, the frame before, not yet memorised.
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
