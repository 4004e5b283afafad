"""Where arrays are on the devices: all rules of sharding, and the checks that they hold.

The devices form a mesh of three axes (`config.mesh`). Clips of a batch go over `data` and `fsdp`
together, rows of the images over `spatial`; weights, their average and the optimizer's state are in
parts over `fsdp` and are gathered for a step. XLA derives everything else from that, the exchange
of border rows between neighbours included.
"""

import contextlib
import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vos_jax.errors import InputError

AXES = ('data', 'fsdp', 'spatial')
BATCH = ('data', 'fsdp')
# Smaller arrays (biases, norms) cost more to gather than they take: they stay whole everywhere.
MIN_VALUES = 4096
LARGE_BYTES = 2**20  # what must not be whole on every device where there is an axis to split it


def make_mesh(spec, devices=None, clips=None, rows=1, accumulate=1):
    """The mesh of a run.

    Neighbours along `spatial`, which exchange most, are next to each other, on TPUs by their
    topology; processes follow each other along `data`, so that each reads clips of its own.

    Args:
      spec: MeshSpec, `config.mesh`.
      devices: instead of all devices of all processes.
      clips: of a batch that are computed at a time; None: as many as there are devices.
      rows: of features, the most that `spatial` can split.
      accumulate: parts in which a batch is computed.

    Returns:
      jax.sharding.Mesh of AXES. One process uses its first devices where the mesh is smaller.

    Raises:
      InputError: where the devices are too few, some process would have no part in the mesh, or
        `fsdp` or `spatial` would go across slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = _sizes(spec, len(devices), clips, rows)
    count = math.prod(sizes)
    text = ' x '.join(f'{name} {size}' for name, size in zip(AXES, sizes)) + f' = {count} devices'
    if count > len(devices):
        raise InputError(f"'mesh' is {text}; there are {len(devices)}")
    if count < len(devices) and len({device.process_index for device in devices}) > 1:
        hint = remedy(spec, len(devices), (clips or len(devices)) * accumulate, accumulate)
        raise InputError(
            f"'mesh' is {text}, the processes have {len(devices)} and can leave none idle: "
            f'{hint} (docs/tpu_pods.md)'
        )
    ordered = sorted(devices, key=lambda d: (_slice(d), d.process_index, d.id))[:count]
    slices = len(set(map(_slice, ordered)))
    if sizes[0] % slices:
        raise InputError(
            f"'mesh' is {text} on {slices} slices, whose connection is slow: fsdp and spatial stay "
            f'inside of a slice, so mesh.data must be a multiple of {slices}'
        )
    placed = _by_topology(ordered, sizes, slices)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def remedy(spec, count, batch_size, accumulate):
    """What would have all of `count` devices used, where the mesh of `spec` leaves some idle."""
    split = spec.fsdp * spec.spatial
    if count % split:
        return f'mesh.fsdp x mesh.spatial = {split} must divide {count} for all to be used'
    unit = count // spec.spatial * accumulate
    needed = -(-batch_size // unit) * unit
    changes = ['mesh.data=-1'] if spec.data > 0 else []
    changes += [f'data.batch_size={needed}'] if needed != batch_size else []
    return f'{" and ".join(changes)} would use all'


def _sizes(spec, count, clips, rows):
    """Sizes of the axes; -1 for `data`: all devices, and rows too where clips are fewer."""
    data, fsdp, spatial = (getattr(spec, name) for name in AXES)
    if data > 0:
        return data, fsdp, spatial
    rest = max(count // (fsdp * spatial), 1)
    data = rest if clips is None else math.gcd(rest, max(clips // fsdp, 1))
    fitting = (n for n in range(rest // data, 0, -1) if rest // data % n == 0)
    more = next((n for n in fitting if n * spatial <= rows), 1) if spatial == 1 else 1
    return data, fsdp, spatial * more


def _slice(device):
    return getattr(device, 'slice_index', None) or 0


def _walk(device):
    """Orders the chips of a host so that each is a neighbour of the next: there and back again."""
    x, y, z = getattr(device, 'coords', None) or (0, 0, 0)
    return z, -y if z % 2 else y, -x if (y + z) % 2 else x


def _by_topology(devices, sizes, slices):
    """The devices as an array of `sizes`; host by host where a process would lose its clips."""
    if devices[0].platform != 'tpu' or len(devices) == 1:
        return np.array(devices).reshape(sizes)
    by_host = sorted(devices, key=lambda d: (_slice(d), d.process_index, _walk(d), d.id))
    plain = np.array(by_host).reshape(sizes)
    data, *rest = sizes
    parts = plain.reshape(slices, -1)
    try:
        placed = np.concatenate(
            [mesh_utils.create_device_mesh((data // slices, *rest), list(p)) for p in parts]
        )
    except (AssertionError, NotImplementedError, ValueError):  # a part of a slice, say
        return plain
    return placed if _keeps_clips(placed) else plain


def _keeps_clips(placed):
    """Whether each process has a run of clips to itself, or shares all of its clips; see
    `local_clips`."""
    clips = placed.reshape(-1, placed.shape[-1])
    places = {}
    for place, row in enumerate(clips):
        for device in row:
            places.setdefault(device.process_index, set()).add(place)
    return all(
        max(own) - min(own) + 1 == len(own)
        and min(own) % len(own) == 0
        and len(clips) % len(own) == 0
        for own in places.values()
    )


def shard_batch(shapes, mesh, accumulate=1):
    """Shardings of a batch: clips over `data` and `fsdp`, rows over `spatial`.

    Rows that do not divide (465 over 2) arrive whole, as bytes, and are split on the device. So do
    the frames for a warp on the device: each row of its result may need any row of a frame.

    Args:
      shapes: dict(frames=[B, T, H, W, 3], labels=[B, T, H, W], objects=[B, K]), arrays or shapes,
        or those of `data.warp` 'device'.
      mesh: from `make_mesh`.
      accumulate: parts in which each device computes its clips.

    Returns:
      dict of NamedSharding.

    Raises:
      InputError: where the clips do not divide among the devices.
    """
    batch, parts = shapes['objects'].shape[0], mesh.shape['data'] * mesh.shape['fsdp']
    if batch % (parts * accumulate):
        raise InputError(
            f"'data.batch_size' is {batch}; mesh.data x mesh.fsdp x training.accumulate = "
            f'{parts * accumulate} must divide it. More devices than clips are used by mesh.spatial'
        )

    def spec(name):
        if name not in ('frames', 'labels'):
            return P(BATCH)
        divides = shapes[name].shape[2] % mesh.shape['spatial'] == 0
        return P(BATCH, None, 'spatial' if divides else None)

    return {name: NamedSharding(mesh, spec(name)) for name in shapes}


def shard_state(shapes, mesh, min_values=MIN_VALUES):
    """Shardings of a TrainState: each array in parts over `fsdp`, along its longest axis.

    Args:
      shapes: pytree of arrays or ShapeDtypeStructs.
      mesh: from `make_mesh`.
      min_values: arrays with fewer stay whole.

    Returns:
      The same tree of NamedSharding.

    Raises:
      InputError: where a large array has no axis that divides.
    """
    parts = mesh.shape['fsdp']

    def spec(path, leaf):
        if parts == 1 or math.prod(leaf.shape) < min_values:
            return NamedSharding(mesh, P())
        axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if not axes:
            if math.prod(leaf.shape) * leaf.dtype.itemsize >= LARGE_BYTES:
                name = jax.tree_util.keystr(path, simple=True, separator='/')
                raise InputError(
                    f"'mesh.fsdp' is {parts}: '{name}' of shape {list(leaf.shape)} cannot be split "
                    'and would be whole on every device; choose a divisor of one of its sides'
                )
            return NamedSharding(mesh, P())
        axis = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*[None] * axis, 'fsdp'))

    return jax.tree_util.tree_map_with_path(spec, shapes)


class Constraints:
    """Constraints inside the train step, where XLA should not choose by itself.

    Args:
      mesh: from `make_mesh`, or None: no constraints.
      min_values: as for `shard_state`.
    """

    def __init__(self, mesh=None, min_values=MIN_VALUES):
        self._mesh, self._min_values = mesh, min_values
        shape = dict.fromkeys(AXES, 1) if mesh is None else dict(mesh.shape)
        self._gathers, self._splits = shape['fsdp'] > 1, shape['spatial'] > 1

    def context(self):
        """Context in which operations see that their arrays are sharded."""
        if self._mesh is None or self._mesh.size == 1:
            return contextlib.nullcontext()
        return jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh)

    def whole(self, params):
        """Weights as a step uses them: gathered. Stored in parts, they would split channels."""
        return self._placed(params, P()) if self._gathers else params

    def parts(self, tree):
        """Gradients as the state is stored: summed over the clips and split at once."""
        if not self._gathers:
            return tree
        shardings = shard_state(tree, self._mesh, self._min_values)
        return jax.tree.map(jax.lax.with_sharding_constraint, tree, shardings)

    def rows(self, tree, axis):
        """Arrays [B, ...] whose `axis` are rows of images, or cells row by row."""
        if not self._splits:
            return tree
        return self._placed(tree, P(BATCH, *[None] * (axis - 1), 'spatial'))

    def _placed(self, tree, spec):
        sharding = NamedSharding(self._mesh, spec)
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)


def local_clips(sharding, batch_size):
    """The clips of a global batch that the devices of this process see.

    Args:
      sharding: of an array whose first axis are the clips.
      batch_size: clips of all processes.

    Returns:
      first, count. Processes that share the rows of a clip all read it.

    Raises:
      InputError: where processes would share some of their clips only.
    """
    places = sharding.addressable_devices_indices_map((batch_size,))
    spans = {index[0].indices(batch_size)[:2] for index in places.values()}
    first, last = min(start for start, _ in spans), max(stop for _, stop in spans)
    count = last - first
    if first % count or batch_size % count:
        raise InputError(
            f"'mesh.spatial' splits clips {first} to {last - 1} unevenly among processes; choose a "
            'divisor or a multiple of the devices of a process'
        )
    return first, count


def to_devices(batch, shardings, batch_size=None):
    """Puts what this process has read of a batch on its devices, as part of the global arrays.

    Args:
      batch: dict of NumPy arrays, the clips of `local_clips`.
      shardings: from `shard_batch`.
      batch_size: clips of all processes; None: those of `batch`.
    """
    return {
        name: jax.make_array_from_process_local_data(
            shardings[name], array, (batch_size or len(array), *array.shape[1:])
        )
        for name, array in batch.items()
    }


def placed(shapes, shardings):
    """Shapes of arrays with their places, from two trees alike."""

    def place(shape, sharding):
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

    return jax.tree.map(place, shapes, shardings)


def gathered(tree):
    """Arrays that may be spread over processes, each whole on the first device of this one."""
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), whole)


def describe(mesh):
    """Text such as '8 devices (data 2 x spatial 4)'."""
    axes = ' x '.join(f'{name} {size}' for name, size in mesh.shape.items() if size > 1)
    return f'{mesh.size} device{"s" * (mesh.size > 1)}' + (f' ({axes})' if axes else '')
