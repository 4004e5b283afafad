"""Saves and restores the state of a run: the newest checkpoints, and the best by J&F.

What is stored, and how it is read and verified, is `vos_jax.checkpoint_files`.
"""

import shutil

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from vos_jax import checkpoint_files as files
from vos_jax.errors import InputError, first_line
from vos_jax.processes import gathered
from vos_jax.storage.paths import absolute, bucket_reason, explained, is_bucket, path_of, refusal
from vos_jax.training.sharding import placed
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
        target = placed(target, shardings)
    restored = checkpoints.restore(target)
    if restored is not None:
        state, record = restored
        return state, record['step']
    state = init()
    return (warm_start(state) if warm_start else state), 0


class _Manager(ocp.CheckpointManager):
    """Leaves the question whether the run is to stop to the loop.

    JAX agrees on the step after the last that was asked for: Orbax would ask for an older one when
    it has written that, and the point agreed on then would never come.
    """

    def reached_preemption(self, step):
        return False


class Checkpoints:
    """Saves and restores the state of one run; a context manager that waits for its last save."""

    def __init__(self, workdir, keep=2, keep_best=1, keep_every=0):
        """
        Args:
          workdir: folder of the run.
          keep: how many of the newest checkpoints stay; 2 or more, so that there is one to fall
            back to.
          keep_best: how many of the best stay.
          keep_every: checkpoints of multiples of so many steps stay for good; 0: none.
        """
        self._workdir = path_of(workdir)
        root = absolute(self._workdir) / 'checkpoints'
        if jax.process_index() == 0:
            _clean(self._workdir)
        _wait_for_all('folders of checkpoints are clean')
        self._last = None  # folder, record and structs of the newest that was saved
        self._is_lost = False  # whether the save before the last one was lost
        self._latest = _Manager(
            root / 'latest',
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, keep_period=keep_every or None),
        )
        self._best = _Manager(
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
        self._save('latest', step, state, extra)

    def save_best(self, step, variables, jf):
        """Saves what was evaluated; it stays while its J&F is among the best.

        Args:
          step: number of steps done.
          variables: pytree of arrays, as `checkpoint_files.read_variables` gives them back:
            {'params': ..., 'batch_stats': ...}.
          jf: J&F, a fraction.
        """
        self._save('best', step, variables, {'jf': jf}, {'jf': float(jf)})

    def latest_step(self):
        """Step of the newest checkpoint, or None. It may turn out damaged when it is restored."""
        return max(self._latest.all_steps(), default=None)

    def restore(self, target):
        """Restores the newest checkpoint that can be read.

        A damaged one is reported and renamed to STEP.damaged once an older one has been read; in a
        bucket it stays, with `damaged.txt` in it.

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
            found, error = None, None
            try:
                found = self._read(step, target)
            except InputError:
                raise
            except Exception as raised:  # what Orbax raises for damaged files is a plain Exception
                if refusal(self._workdir, raised):
                    raise
                error = raised
            if not all(gathered(found is not None)):
                reason = first_line(error) if error else 'another process found it damaged'
                logging.error('%s cannot be read: %s', self._folder('latest', step), reason)
                damaged.append(step)
                continue
            state, record = found
            if damaged:
                logging.error('resuming from step %d, the newest that can be read', step)
                self._set_aside('latest', damaged)
            return state, record
        if damaged:
            raise InputError(
                f'{self._folder("latest", damaged[0])}: damaged, and there is no older checkpoint '
                'that can be read; copy it again, or train in a new --workdir'
            )
        return None

    def wait(self):
        """Returns when all saves are on the disk."""
        self._latest.wait_until_finished()
        self._best.wait_until_finished()

    def close(self, verify=True):
        """Waits, then ends the threads that save; compares the last save with what was saved.

        Raises:
          InputError: where it cannot be read back.
        """
        try:
            self._latest.close()
            self._best.close()
        finally:
            if jax.process_count() == 1:  # else another process may still write there
                _remove_unfinished(self._workdir)
        if not verify or self._last is None:
            return
        folder, record, structs = self._last
        try:
            with explained(folder, 'what was saved last cannot be read back'):
                files.verify_files(folder, record, structs)
        except InputError:
            raise
        except Exception as error:  # what Orbax raises for damaged files is a plain Exception
            raise InputError(
                f'{folder}: what was saved last cannot be read back ({first_line(error)}); check '
                'the disk; the same command resumes from the checkpoint before'
            ) from error

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        self.close(verify=kind is None)

    def _manager(self, kind):
        return {'latest': self._latest, 'best': self._best}[kind]

    def _folder(self, kind, step):
        return files.folder_of(self._workdir, kind, step)

    def _save(self, kind, step, tree, extra, metrics=None):
        manager = self._manager(kind)
        leaves = files.named_leaves(tree)
        record, structs = files.make_record(step, leaves, extra), _structs(leaves)
        self._wait_for_last(manager)
        if step in manager.all_steps():
            manager.wait_until_finished()
            if self._holds(kind, step, record, structs):
                return  # the same run came by here before: the same state
            logging.error('%s is of another state, or damaged', self._folder(kind, step))
            self._set_aside(kind, [step])
        if kind == 'latest':
            self._last = self._folder(kind, step), record, structs
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(leaves), record=ocp.args.JsonSave(record)
            ),
            metrics=metrics,
            force=True,  # when to save is decided by the loop
        )

    def _wait_for_last(self, manager):
        """Waits for the save before. One that a bucket lost is made up for by that which follows.

        A service that is away for seconds forgets uploads that had begun. Two in succession are an
        error, and so is one of several processes, which would not agree.
        """
        try:
            manager.wait_until_finished()
            self._is_lost = False
        except Exception as error:  # of whatever client
            reason = bucket_reason(error) if is_bucket(self._workdir) else None
            if reason is None or self._is_lost or jax.process_count() > 1:
                raise
            self._is_lost = True
            logging.warning('%s: a checkpoint was lost: %s', self._workdir, reason)

    def _holds(self, kind, step, record, structs):
        """Whether a checkpoint is there, whole, and of the same arrays."""
        folder = self._folder(kind, step)
        try:
            stored = files.read_record(folder)
            is_same = stored['leaves'] == record['leaves']
            if is_same:
                files.verify_files(folder, stored, structs)
        except Exception as error:  # what Orbax raises for damaged files is a plain Exception
            if refusal(folder, error):
                raise
            is_same = False
        return all(gathered(is_same))

    def _read(self, step, target):
        folder = self._folder('latest', step)
        record = files.read_record(folder)
        needed = files.named_leaves(target)
        check(
            files.described(record),
            needed,
            f'checkpoint {folder}',
            f'use the config stored in {self._workdir}, or a new --workdir',
        )
        leaves = files.read_arrays(folder, needed)
        files.verify(leaves, record)
        ordered = [leaves[name] for name in needed]
        return jax.tree.unflatten(jax.tree.structure(target), ordered), record

    def _set_aside(self, kind, steps):
        if jax.process_index() == 0:
            for step in steps:
                _set_aside(self._folder(kind, step))
        _wait_for_all('damaged checkpoints set aside')
        self._manager(kind).reload()


def _structs(leaves):
    """Shape, dtype and place of each array, to read it back."""
    return {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, 'sharding', None))
        for name, leaf in leaves.items()
    }


def _wait_for_all(what):
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def _clean(workdir):
    """Removes what killed saves have left; sets aside, and reports, what is no checkpoint."""
    _remove_unfinished(workdir)
    for kind in files.KINDS:
        for path, reason in files.find_strays(workdir, kind):
            logging.error('%s %s: %s', path, _clear(path, reason), reason)


def _clear(path, reason):
    """Clears away what is no checkpoint; says how."""
    if is_bucket(path):
        if reason != files.UNFINISHED:
            return 'is left out'
        path.rmtree()
        return 'was removed'
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return 'was removed'
    _set_aside(path)
    return f'was renamed to {path.name}.damaged'


def _remove_unfinished(workdir):
    """Removes what saves have left that were killed, or found the disk full."""
    if is_bucket(workdir):
        return  # they have the names of whole ones: `find_strays` finds them
    for folder in (workdir / 'checkpoints').glob('*/*.orbax-checkpoint-tmp*'):
        shutil.rmtree(folder, ignore_errors=True)


def _set_aside(path):
    """Renames what is no checkpoint, or none that can be read; marks it in a bucket."""
    if is_bucket(path):  # a renaming would copy all of it
        (path / files.SET_ASIDE).write_text('the record differs from what is here')
        (path / files.FINISHED).unlink(missing_ok=True)
        return
    other = path.with_name(f'{path.name}.damaged')
    if other.is_dir():
        shutil.rmtree(other, ignore_errors=True)
    path.replace(other)
