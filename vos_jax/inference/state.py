"""The state of a video as one value: how it is carried on, and how it is stored.

The functions that carry it on are those that an exported model has beside it
(`program/vos_loader/video.py`). As plain arrays a state is a dictionary, which `write_state` puts
into one file, or into one file and one for each memory entry.
"""

import jax
import numpy as np

from vos_jax.errors import InputError
from vos_jax.inference.program.vos_loader.video import (
    VideoState,
    advance,
    advance_together,
    begin,
    give,
    observe,
    probabilities,
)
from vos_jax.inference.state_files import read_state, write_state

__all__ = [
    'VideoState',
    'advance',
    'advance_together',
    'begin',
    'from_arrays',
    'give',
    'observe',
    'probabilities',
    'read_state',
    'to_arrays',
    'write_state',
]


def to_arrays(state):
    """A VideoState as plain values; nothing is copied.

    Returns:
      Dict of arrays and numbers by name; `previous` is a list of arrays, and `entries` a dict of
      lists of arrays by frame number.
    """
    return {
        'time': state.time,
        'slots': state.slots,
        'given': np.array(state.given, np.int32),
        'ids': np.array(state.ids, np.int32),
        'labels': state.labels,
        'previous': jax.tree.leaves(state.previous),
        'entries': {time: jax.tree.leaves(entry) for time, entry in state.entries.items()},
    }


def from_arrays(program, arrays):
    """The VideoState of `to_arrays`, on the device of a program with the same model and weights.

    Raises:
      InputError: for a state of another model.
    """
    slots, size = int(arrays['slots']), tuple(np.shape(arrays['previous'][0])[1:3])
    previous = _in_structure(program.previous_shapes(size, slots), arrays['previous'])
    shape = program.entry_shapes(size, slots)
    entries = {int(time): _in_structure(shape, part) for time, part in arrays['entries'].items()}
    return VideoState(
        time=int(arrays['time']),
        slots=slots,
        ids=tuple(np.asarray(arrays['ids']).tolist()),
        given=tuple(np.asarray(arrays['given']).tolist()),
        labels=np.asarray(arrays['labels']),
        previous=program.put(previous),
        entries=program.put(entries),
    )


def _in_structure(shape, leaves):
    """Arrays in a structure. NumPy's files keep the bits of bfloat16, but not its name."""
    wanted, structure = jax.tree.flatten(shape)
    leaves = [
        leaf.view(like.dtype) if leaf.dtype.kind == 'V' else leaf
        for leaf, like in zip(leaves, wanted)
    ]
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(x.shape, x.dtype) for x in wanted]:
        raise InputError('the state is that of another model; take the weights it was made by')
    return jax.tree.unflatten(structure, leaves)
