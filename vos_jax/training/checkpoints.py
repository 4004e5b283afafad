"""Checkpoints of a run: the newest ones, to go on from, and the best by J&F.

`WORKDIR/checkpoints/latest/STEP` holds the whole training state, `.../best/STEP` what was
evaluated. Each holds a record as well: the step, which is the position in the data too (batch i is
a function of the seed and i), and shape, dtype and checksum of each array. Orbax writes under a
temporary name and renames; what it does not see, a damaged or half-copied file, the checksums do.
"""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util
from jax.experimental import multihost_utils

from vos_jax.errors import InputError, first_line
from vos_jax.weights import check


def restore_or_init(checkpoints, init, warm_start=None, shardings=None):
    """Gives the state to train from. In this order:

    1. the run's own newest checkpoint that can be read;
    2. the weights that the config names, put into a random state by `warm_start`;
    3. random.

    Args:
      checkpoints: `Checkpoints` of the run.
      init: function without arguments that gives a random state (called in cases 2 and 3 only).
      warm_start: function state -> state, or None.
      shardings: tree of shardings as the state has them, whatever mesh it was saved from; None: one
        device.

    Returns:
      state, and the number of steps it has been trained for.
    """
    target = jax.eval_shape(init)
    if shardings is not None:
        target = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            target,
            shardings,
        )
    restored = checkpoints.restore(target)
    if restored is not None:
        state, record = restored
        return state, record['step']
    state = init()
    return (warm_start(state) if warm_start else state), 0


class Checkpoints:
    """Saves and restores the state of one run; a context manager that waits for its last save."""

    def __init__(self, workdir, keep=2, keep_best=1):
        """
        Args:
          workdir: folder of the run.
          keep: how many of the newest checkpoints stay; 2 or more, so that there is one to fall
            back to.
          keep_best: how many of the best stay.
        """
        self._workdir = Path(workdir)
        root = self._workdir.absolute() / 'checkpoints'
        if jax.process_index() == 0:
            _remove_unfinished(root)
        _wait_for_all('unfinished checkpoints removed')
        self._latest = ocp.CheckpointManager(
            root / 'latest', options=ocp.CheckpointManagerOptions(max_to_keep=keep)
        )
        self._best = ocp.CheckpointManager(
            root / 'best',
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep_best, best_fn=lambda metrics: metrics['jf'], best_mode='max'
            ),
        )

    def save(self, step, state, extra=None):
        """Saves the state in the background, as the newest.

        Args:
          step: number of steps done, thus also the number of the next batch.
          state: pytree of arrays.
          extra: dict of JSON values for the record.
        """
        _save(self._latest, step, state, extra)

    def save_best(self, step, variables, jf, extra=None):
        """Saves what was evaluated; it stays while its J&F is among the best.

        Args:
          step: number of steps done.
          variables: pytree of arrays, for `read_variables`: {'params': ..., 'batch_stats': ...}.
          jf: J&F, a fraction.
          extra: dict of JSON values for the record.
        """
        _save(self._best, step, variables, {**(extra or {}), 'jf': jf}, metrics={'jf': float(jf)})

    def latest_step(self):
        """Step of the newest checkpoint, or None. It may turn out damaged when it is restored."""
        steps = [step for step in self._latest.all_steps() if not self._is_empty(step)]
        return max(steps, default=None)

    def restore(self, target):
        """Restores the newest checkpoint that can be read.

        A damaged one is said loudly and renamed to STEP.damaged once an older one has been read.
        An empty folder, as a copy that was broken off leaves it, is removed.

        Args:
          target: pytree of arrays or ShapeDtypeStructs; where these have a sharding, the arrays
            are restored onto it, whatever they were saved from.

        Returns:
          state, with the structure of `target`, and the record (dict); or None without checkpoints.

        Raises:
          InputError: where the checkpoint is of another model, or none can be read.
        """
        damaged = []
        for step in sorted(self._latest.all_steps(), reverse=True):
            if self._is_empty(step):
                self._set_aside([step])
                continue
            found, error = None, None
            try:
                found = self._read(step, target)
            except InputError:
                raise
            except Exception as raised:  # what Orbax raises for damaged files is a plain Exception
                error = raised
            if not _is_true_for_all(found is not None):
                reason = first_line(error) if error else 'another process found it damaged'
                logging.error('%s cannot be read: %s', self._folder(step), reason)
                damaged.append(step)
                continue
            state, record = found
            if damaged:
                logging.error('going on from step %d, the newest that can be read', step)
                self._set_aside(damaged)
            return state, record
        if damaged:
            raise InputError(
                f'{self._folder(damaged[0])}: damaged, and there is no older checkpoint that can '
                'be read; copy it again, or train in a new --workdir'
            )
        return None

    def wait(self):
        """Returns when all saves are on the disk."""
        self._latest.wait_until_finished()
        self._best.wait_until_finished()

    def close(self):
        """Waits, then ends the threads that save."""
        self._latest.close()
        self._best.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _folder(self, step):
        return self._workdir / 'checkpoints' / 'latest' / str(step)

    def _is_empty(self, step):
        return not any(self._folder(step).iterdir())

    def _read(self, step, target):
        record = _read_record(self._folder(step))
        needed = _named_leaves(target)
        check(
            _described(record),
            needed,
            f'checkpoint {self._folder(step)}',
            f'use the config stored in {self._workdir}, or a new --workdir',
        )
        leaves = _read_arrays(self._folder(step), needed)
        _verify(leaves, record)
        ordered = [leaves[name] for name in needed]
        return jax.tree.unflatten(jax.tree.structure(target), ordered), record

    def _set_aside(self, steps):
        if jax.process_index() == 0:
            for step in steps:
                folder = self._folder(step)
                if self._is_empty(step):
                    folder.rmdir()
                else:
                    shutil.rmtree(folder.with_name(f'{step}.damaged'), ignore_errors=True)
                    folder.rename(folder.with_name(f'{step}.damaged'))
        _wait_for_all('damaged checkpoints set aside')
        self._latest.reload()


def read_variables(workdir, which='best'):
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
    folder = _find(Path(workdir) / 'checkpoints', which)
    try:
        record = _read_record(folder)
        needed = {
            name: leaf
            for name, leaf in _described(record).items()
            if name.split('/')[0] in ('params', 'batch_stats', 'ema')
        }
        leaves = _read_arrays(folder, needed)
        _verify(leaves, record)
    except Exception as error:  # what Orbax raises for damaged files is a plain Exception
        raise InputError(
            f'{folder}: damaged ({first_line(error)}); copy it again, or use another checkpoint'
        ) from error
    variables = traverse_util.unflatten_dict(leaves, sep='/')
    averaged = variables.pop('ema', None)
    return {**variables, 'params': averaged or variables['params']}, record


def list_steps(workdir):
    """Lists the steps of which a run has a checkpoint, ascending."""
    return sorted({int(path.name) for path in _folders(Path(workdir) / 'checkpoints')})


def _folders(root):
    """Folders of all checkpoints; an empty one is a copy that was broken off."""
    found = [path for path in root.glob('*/*') if path.name.isdigit()]
    return [path for path in found if any(path.iterdir())]


def _find(root, which):
    if isinstance(which, int):
        found = [path for path in _folders(root) if int(path.name) == which]
        if found:
            return found[0]
        there = ', '.join(sorted({path.name for path in _folders(root)}, key=int)) or 'none'
        raise InputError(f'{root}: no checkpoint of step {which}; steps there: {there}')
    folders = {'best': ('best', 'latest'), 'latest': ('latest',)}
    if which not in folders:
        raise InputError(f"checkpoint '{which}' is not one of {', '.join(folders)}")
    for name in folders[which]:
        steps = [path for path in root.glob(f'{name}/*') if path.name.isdigit()]
        steps = [path for path in steps if any(path.iterdir())]
        if name == 'best' and steps:
            return max(steps, key=lambda path: (_read_record(path)['jf'], int(path.name)))
        if steps:
            return max(steps, key=lambda path: int(path.name))
    raise InputError(f'{root}: no checkpoint; --workdir names the folder of a run of train.py')


def _save(manager, step, tree, extra, metrics=None):
    if step in manager.all_steps():
        return  # the same run came by here before: the same state
    leaves = _named_leaves(tree)
    record = {**(extra or {}), 'step': int(step), 'leaves': _describe(leaves)}
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(leaves), record=ocp.args.JsonSave(record)
        ),
        metrics=metrics,
        force=True,  # when to save is decided by the loop
    )


def _named_leaves(tree):
    """Dict of leaves by '/'-joined name, in the order in which the tree has them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): (
            leaf if hasattr(leaf, 'shape') else jnp.asarray(leaf)
        )
        for path, leaf in leaves
    }


def _wait_for_all(what):
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def _is_true_for_all(value):
    """Whether it is true in all processes."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.array([value])).all())


def _describe(leaves):
    sums = checksums(leaves)
    return {
        name: {'shape': list(leaf.shape), 'dtype': str(leaf.dtype), 'sum': sums[name]}
        for name, leaf in leaves.items()
    }


def _described(record):
    return {
        name: jax.ShapeDtypeStruct(about['shape'], about['dtype'])
        for name, about in record['leaves'].items()
    }


def checksums(leaves):
    """A checksum of each array, the same however it lies on devices and processes.

    The bits of value i count 2 i + 1 times, modulo 2^64: a value that changes changes the sum, and
    so does a swap; parts on other devices or processes are simply added.

    Args:
      leaves: dict of arrays, jax or NumPy; all processes call this alike.

    Returns:
      dict of int.
    """
    sums = np.array([_local_sum(leaf) for leaf in leaves.values()], np.uint64)
    if jax.process_count() > 1 and len(sums):
        # As 32-bit words: jax has no 64-bit integers by default.
        words = multihost_utils.process_allgather(sums.view(np.uint32))
        sums = words.reshape(jax.process_count(), -1).view(np.uint64).sum(axis=0, dtype=np.uint64)
    return dict(zip(leaves, map(int, sums)))


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


def _verify(leaves, record):
    expected = {name: record['leaves'][name] for name in leaves}
    sums = checksums(leaves)
    for name in leaves:
        if sums[name] != expected[name]['sum']:
            raise ValueError(f"'{name}' differs from its checksum")


def _read_record(folder):
    checkpointer = ocp.Checkpointer(ocp.JsonCheckpointHandler())
    return checkpointer.restore(folder.absolute() / 'record', args=ocp.args.JsonRestore())


def _read_arrays(folder, needed):
    """Reads the arrays that `needed` names; others are left where they are."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = {
        name: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=getattr(leaf, 'sharding', None) or here
        )
        for name, leaf in needed.items()
    }
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
        folder.absolute() / 'state',
        args=ocp.args.PyTreeRestore(
            target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        ),
    )


def _remove_unfinished(root):
    """Removes what saves that were killed have left behind."""
    for folder in root.glob('*/*.orbax-checkpoint-tmp*'):
        shutil.rmtree(folder, ignore_errors=True)
