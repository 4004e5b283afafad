"""Copies of prepared shards on each host: read from its memory or disk instead of a bucket."""

import fcntl
import shutil
from pathlib import Path

from vos_jax.data.shards import prepared
from vos_jax.storage import disk, paths
from vos_jax.storage.atomic import replacing


def stage(folder, index, split, target):
    """Copies the shards of a split, unless they are there; processes of a host wait for one.

    Args:
      folder: of the shards, local or gs://.
      index: content of its videos.json.
      split: such as 'train'.
      target: local folder, as /dev/shm/vos; each data set gets one of its own in it.

    Returns:
      The folder of the copies. Their sizes are compared; checksums of frames are when these are
      read.

    Raises:
      InputError: where the target is full or cannot be written, or a shard cannot be read.
    """
    target = paths.local(target, 'data.stage')
    # Two data sets of one name differ in their shards' sizes.
    sizes = sum(shard['bytes'] for part in index['splits'].values() for shard in part['shards'])
    own = target / f'{index["name"]}-{sizes}'
    with disk.explain_disk_errors(target, 'data.stage'):
        own.mkdir(parents=True, exist_ok=True)
        with open(own / '.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for shard in index['splits'][split]['shards']:
                _copy(folder / shard['file'], own / shard['file'], shard['bytes'])
    return own


def _copy(source, target, num_bytes):
    if target.is_file() and target.stat().st_size == num_bytes:
        return
    prepared.check_shard_size(source, num_bytes)
    with replacing(target, sync=False) as temporary:
        if paths.is_bucket(source):
            with paths.explained(source, 'cannot be read'):
                paths.file_system().get(str(source), str(temporary))
        else:
            shutil.copyfile(source, Path(temporary))
        prepared.check_shard_size(temporary, num_bytes)
