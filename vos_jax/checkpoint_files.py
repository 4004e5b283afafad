"""Checkpoints as files: what is stored, how it is read and verified. Saving is training's.

`WORKDIR/checkpoints/latest/STEP` holds the whole training state, `.../best/STEP` what was
evaluated. Each holds a record as well: the step, which is the position in the data too (batch i is
a function of the seed and i), and shape, dtype and checksum of each array. Orbax writes under a
temporary name and renames; what it does not see, a damaged, renamed or half-copied checkpoint, the
record does.
"""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils

from vos_jax.errors import InputError, first_line
from vos_jax.storage import checksum
from vos_jax.storage.paths import absolute, explained, is_bucket, path_of, refusal

KINDS = ('latest', 'best')
# Orbax writes the first of these last in a bucket, where nothing can be renamed; a checkpoint that
# was found damaged has the second instead.
FINISHED, SET_ASIDE = 'commit_success.txt', 'damaged.txt'
UNFINISHED = 'its upload was not finished'
_VARIABLES = ('params', 'batch_stats', 'ema')
_PART_BYTES = 256 * 2**20  # of a checkpoint that `verify_files` holds at a time


def folder_of(workdir, kind, step):
    """The folder of a checkpoint; `kind` is 'latest' or 'best'."""
    return path_of(workdir) / 'checkpoints' / kind / str(step)


def read_variables(workdir, which: int | str = 'best'):
    """Reads the variables of a run's checkpoint for evaluation, onto the first local device.

    Args:
      workdir: folder of the run.
      which: 'best' (by J&F on the held-out split; the newest where none was evaluated), 'latest',
        or a step, one of `list_steps`.

    Returns:
      variables: {'params': ..., 'batch_stats': ...}; the averaged weights stand for `params` where
      the state has them (as `ema`). And the record (dict).

    Raises:
      InputError: where there is no checkpoint or it is damaged.
    """
    workdir = path_of(workdir)
    with explained(workdir, 'cannot be read'):
        folder = _find(workdir, which)
    try:
        record = read_record(folder)
        needed = {
            name: leaf
            for name, leaf in described(record).items()
            if name.split('/')[0] in _VARIABLES
        }
        leaves = read_arrays(folder, needed, alone=True)
        verify(leaves, record)
    except Exception as error:  # what Orbax raises for damaged files is a plain Exception
        raise _damaged(folder, error) from error
    variables = traverse_util.unflatten_dict(leaves, sep='/')
    averaged = variables.pop('ema', None)
    return {**variables, 'params': averaged or variables['params']}, record


def list_steps(workdir):
    """Lists the steps of which a run has a checkpoint, ascending."""
    with explained(workdir, 'cannot be read'):
        return sorted({step for kind in KINDS for step in _steps(workdir, kind)})


def find_strays(workdir, kind):
    """Finds what is among the checkpoints and is none, with the reason: [(path, text)].

    A folder that a copy left empty, a file, a name that is no step. Neither what Orbax has not
    finished nor what was set aside as STEP.damaged.
    """
    return [(path, reason) for path, reason in _entries(workdir, kind) if reason]


def _steps(workdir, kind):
    return [int(path.name) for path, reason in _entries(workdir, kind) if not reason]


def _entries(workdir, kind):
    """What is among the checkpoints, with the reason why it is none, or ''."""
    for path in sorted((path_of(workdir) / 'checkpoints' / kind).glob('*')):
        if path.name.endswith('.damaged') or '.orbax-checkpoint-tmp' in path.name:
            continue
        reason = ''
        if not path.is_dir():
            reason = 'a file instead of a folder'
        elif not path.name.isdecimal() or str(int(path.name)) != path.name:
            reason = 'its name is not a step'
        elif not any(path.iterdir()):
            reason = 'an empty folder'
        elif is_bucket(path) and not (path / FINISHED).exists():
            reason = 'damaged, and set aside' if (path / SET_ASIDE).exists() else UNFINISHED
        yield path, reason


def _find(workdir, which):
    root = workdir / 'checkpoints'
    for kind in KINDS:
        for path, reason in find_strays(workdir, kind):
            logging.warning('%s is left out: %s', path, reason)
    if isinstance(which, int):
        return _find_step(workdir, which)
    kinds = {'best': ('best', 'latest'), 'latest': ('latest',)}
    if which not in kinds:
        raise InputError(
            f"checkpoint '{which}' is not one of {', '.join(kinds)}, nor a step, as 4000"
        )
    for kind in kinds[which]:
        steps = _steps(workdir, kind)
        if kind == 'best' and steps:
            ranked = [(_score(folder_of(workdir, kind, step)), step) for step in steps]
            return folder_of(workdir, kind, max(ranked)[1])
        if steps:
            return folder_of(workdir, kind, max(steps))
    raise InputError(f'{root}: no checkpoint; --workdir names the folder of a run of train.py')


def _find_step(workdir, step):
    for kind in KINDS:
        if step in _steps(workdir, kind):
            return folder_of(workdir, kind, step)
    there = ', '.join(map(str, list_steps(workdir))) or 'none'
    raise InputError(
        f'{workdir / "checkpoints"}: no checkpoint of step {step}; steps there: {there}'
    )


def _score(folder):
    try:
        return float(read_record(folder)['jf'])
    except Exception as error:
        raise _damaged(folder, error) from error


def _damaged(folder, error):
    if refused := refusal(folder, error):
        return InputError(f'{folder}: cannot be read: {refused}')
    return InputError(
        f'{folder}: damaged ({first_line(error)}); copy it again, or use another checkpoint'
    )


# The record.


def make_record(step, leaves, extra=None):
    """The record of a checkpoint after `step` steps: of arrays by name, and other JSON values."""
    sums = checksums(leaves)
    described_leaves = {
        name: {'shape': list(leaf.shape), 'dtype': str(leaf.dtype), 'sum': sums[name]}
        for name, leaf in leaves.items()
    }
    return checksum.seal({**(extra or {}), 'step': int(step), 'leaves': described_leaves})


def read_record(folder):
    """Reads the record of a checkpoint.

    Raises:
      ValueError: where it is damaged, or that of another step than the folder's name says. What
        Orbax raises, too.
    """
    record = ocp.JsonCheckpointHandler().restore(
        absolute(folder) / 'record', args=ocp.args.JsonRestore()
    )
    if not checksum.is_whole(record):
        raise ValueError('the record differs from its checksum')
    if str(record['step']) != folder.name:
        raise ValueError(f'the record is that of step {record["step"]}')
    return record


def described(record):
    """Shape and dtype of each array of a record, by name."""
    return {
        name: jax.ShapeDtypeStruct(about['shape'], about['dtype'])
        for name, about in record['leaves'].items()
    }


# The arrays.


def named_leaves(tree):
    """Dict of leaves by '/'-joined name, in the order in which the tree has them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): (
            leaf if hasattr(leaf, 'shape') else jnp.asarray(leaf)
        )
        for path, leaf in leaves
    }


def read_arrays(folder, needed, *, alone=False):
    """Reads the arrays that `needed` names; others are left where they are.

    Args:
      folder: of the checkpoint.
      needed: dict of arrays or ShapeDtypeStructs by name. Where one has a sharding, the array is
        restored onto it, whatever it was saved from; else onto the first local device.
      alone: this process reads without the others, which may be elsewhere in their work.

    Returns:
      dict of jax.Array.
    """
    options = ocp.options.MultiprocessingOptions()
    if alone:
        me = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'process {me}'
        )
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = {
        name: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=getattr(leaf, 'sharding', None) or here
        )
        for name, leaf in needed.items()
    }
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options).restore(
        absolute(folder) / 'state',
        args=ocp.args.PyTreeRestore(
            target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        ),
    )


def verify(leaves, record):
    """Compares arrays with the checksums of the record.

    Raises:
      ValueError: names an array that differs.
    """
    sums = checksums(leaves)
    for name, found in sums.items():
        if found != record['leaves'][name]['sum']:
            raise ValueError(f"'{name}' differs from its checksum")


def verify_files(folder, record, needed):
    """Reads a checkpoint back, some arrays at a time, and compares it with the record as saved.

    `needed`: ShapeDtypeStructs with shardings by name, of all its arrays.

    Raises:
      ValueError: where it differs. What Orbax raises, too.
    """
    if read_record(folder) != record:
        raise ValueError('the record is not the one that was saved')
    part, size = {}, 0
    for name, leaf in needed.items():
        part[name] = leaf
        size += leaf.size * leaf.dtype.itemsize
        if size >= _PART_BYTES:
            verify(read_arrays(folder, part), record)
            part, size = {}, 0
    if part:
        verify(read_arrays(folder, part), record)


def checksums(leaves):
    """A checksum of each array, the same however it is spread over devices and processes.

    The bits of value i count 2 i + 1 times, modulo 2^64: a value that changes changes the sum, and
    so does a swap; parts on other devices or processes are simply added.

    `leaves`: arrays of jax or NumPy by name. Where some are spread over processes, all of these
    call this alike.
    """
    sums = {name: int(_local_sum(leaf)) for name, leaf in leaves.items()}
    spread = [name for name, leaf in leaves.items() if not getattr(leaf, 'is_fully_addressable', 1)]
    if spread:
        # As 32-bit words: jax has no 64-bit integers by default.
        local = np.array([sums[name] for name in spread], np.uint64).view(np.uint32)
        words = multihost_utils.process_allgather(local).reshape(jax.process_count(), -1)
        totals = words.view(np.uint64).sum(axis=0, dtype=np.uint64)
        sums |= dict(zip(spread, map(int, totals)))
    return sums


def _local_sum(leaf):
    """The part of a checksum that this process holds."""
    if not isinstance(leaf, jax.Array):
        return _sum_of(np.asarray(leaf), leaf.shape, ())
    if leaf.is_fully_addressable and leaf.is_fully_replicated:
        return _sum_of(np.asarray(leaf), leaf.shape, ())
    # Of parts that several devices hold, one counts.
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    sums = [_sum_of(np.asarray(shard.data), leaf.shape, shard.index) for shard in shards]
    return np.array(sums, np.uint64).sum(dtype=np.uint64)


def _sum_of(part, shape, index):
    """Sum of a part of an array of the given shape, at `index` (slices) in it."""
    bits = np.ascontiguousarray(part).reshape(part.shape).view(f'u{part.dtype.itemsize}')
    place = np.zeros((1,) * part.ndim, np.uint64)
    for axis, size in enumerate(part.shape):
        start = index[axis].indices(shape[axis])[0] if index else 0
        stride = np.prod(shape[axis + 1 :], dtype=np.uint64)
        steps = (np.arange(start, start + size, dtype=np.uint64) * stride).reshape(
            [-1 if other == axis else 1 for other in range(part.ndim)]
        )
        place = place + steps
    weights = 2 * place + np.uint64(1)
    return (bits.astype(np.uint64) * weights).sum(dtype=np.uint64)
