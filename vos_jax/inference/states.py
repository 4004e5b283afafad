"""What a segmenter remembers between two frames of a video: as plain arrays, and as one file."""

import jax
import numpy as np

from vos_jax.errors import InputError
from vos_jax.inference import steps, temporal
from vos_jax.models import protocol
from vos_jax.storage.damage import reading
from vos_jax.storage.npz_files import read_npz, write_npz

_PLAIN = ('time', 'slots', 'given', 'ids', 'labels')


def rebuild(model, variables, state):
    """Puts the arrays of a state back into the structures of a model.

    Returns:
      temporal.Previous, and memory entries by time.

    Raises:
      InputError: for a state of another model.
    """
    slots, size = int(state['slots']), np.shape(state['previous'][0])[1:3]
    shape = previous_shapes(model, variables, size, slots)
    previous = _in_structure(shape, state['previous'])
    shape = steps.entry_shapes(model, variables, previous, np.ones((1, slots), bool))
    entries = {int(time): _in_structure(shape, part) for time, part in state['entries'].items()}
    return previous, entries


def previous_shapes(model, variables, size, slots):
    """Shapes of the temporal.Previous of one video with frames of a size (H, W)."""
    like = jax.ShapeDtypeStruct
    frame, features = like((1, *size, 3), np.uint8), None
    if model.memorises_features:
        features = jax.eval_shape(steps.encode, model, variables, frame)
    masks = protocol.Masks(
        like((1, slots, *size), np.float32), like((1, *size), np.float32), like((1,), bool)
    )
    return temporal.Previous(frame, features, masks, like((1,), np.int32))


def _in_structure(shape, leaves):
    """Arrays in a structure. NumPy's files keep the bits of bfloat16, but not its name."""
    wanted, structure = jax.tree.flatten(shape)
    leaves = [np.asarray(leaf) for leaf in leaves]
    if [leaf.shape for leaf in leaves] != [like.shape for like in wanted]:
        raise InputError('the state is that of another model; take the weights it was made by')
    leaves = [
        leaf.view(like.dtype) if leaf.dtype.kind == 'V' else leaf
        for leaf, like in zip(leaves, wanted)
    ]
    return jax.tree.unflatten(structure, leaves)


def write(path, state, made_by):
    """Writes a state of `Segmenter.state` as NumPy's archive, without pickled objects.

    Args:
      path: the file; it appears whole or not at all.
      state: as `Segmenter.state` gives it.
      made_by: `weights.fingerprint` of the variables.
    """
    arrays = {name: state[name] for name in _PLAIN} | {'weights': made_by}
    arrays |= {f'previous/{i:03d}': leaf for i, leaf in enumerate(state['previous'])}
    for time, leaves in state['entries'].items():
        arrays |= {f'entries/{time}/{i:03d}': leaf for i, leaf in enumerate(leaves)}
    write_npz(path, arrays)


def read(path, made_by):
    """Reads a file of `write`, for `Segmenter.restore`.

    Raises:
      InputError: where it is missing, damaged, or made by other weights.
    """
    what, remedy = 'a whole state of a segmenter', 'write one with Segmenter.save'
    arrays = read_npz(path, what, remedy)
    with reading(path, what, remedy):
        stored = str(arrays['weights'])
        state = {name: arrays[name] for name in _PLAIN} | {'entries': {}}
        state['previous'] = [arrays[n] for n in sorted(arrays) if n.startswith('previous/')]
    if stored != made_by:
        raise InputError(f'{path}: made by other weights; load those it was made by')
    for name in sorted(n for n in arrays if n.startswith('entries/')):
        time = int(name.split('/')[1])
        state['entries'].setdefault(time, []).append(arrays[name])
    # In the order in which they were memorised, which is that of time.
    state['entries'] = dict(sorted(state['entries'].items()))
    return state
