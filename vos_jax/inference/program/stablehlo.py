"""Writes the frame step of a model as StableHLO, for `vos_loader` and for other runtimes."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from jax import export

from vos_jax import weights
from vos_jax.compilation import with_products
from vos_jax.inference import steps
from vos_jax.inference.program import vos_loader
from vos_jax.inference.program.vos_loader.about import FORMAT, checksum_of
from vos_jax.inference.steps import num_slots_for
from vos_jax.storage import checksum
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.json_files import write_json
from vos_jax.storage.npz_files import write_npz

PLATFORMS = ('cpu', 'cuda', 'tpu')
_GROWING = 10  # memory slots of 'every_n', which has no number of its own


def export_step(segmenter, folder, size, num_objects, *, num_memory=None, platforms=PLATFORMS):
    """Writes one program for all platforms, with fixed shapes; its weights are arguments.

    Args:
      segmenter: Segmenter whose model, weights and memory settings are taken.
      folder: made where it is missing: `step.jax_export` (memorise the frame before, encode, read,
        segment), `encode.jax_export` for models that memorise features, `weights.npz`,
        `about.json`, and `vos_loader`, which runs it.
      size: (height, width) of the frames.
      num_objects: most objects.
      num_memory: frames read at once; default: as the segmenter's settings say.
      platforms: of jax.export.

    Returns:
      Plain values that about.json holds.
    """
    folder = Path(folder)
    slots, settings = num_slots_for(num_objects), segmenter.memory
    if num_memory is None:
        num_memory = settings.size
        if settings.policy == 'every_n':
            num_memory = min(num_memory, _GROWING)
    settings = dataclasses.replace(
        settings, size=num_memory, capacity=max(settings.capacity, num_memory, 3)
    )
    num_entries = settings.size if settings.policy == 'every_n' else settings.num_slots
    about = {
        'size': list(size),
        'slots': slots,
        'memory': dataclasses.asdict(settings),
        'weights': [*weights.named(segmenter.variables)],
        'platforms': list(platforms),
        'jax': jax.__version__,
    }
    exported = _exported(segmenter.program, size, slots, num_entries, platforms)
    for before in folder.glob('*.jax_export'):
        before.unlink()
    for name, program in exported.items():
        write_bytes(folder / f'{name}.jax_export', program.serialize())
    write_npz(folder / 'weights.npz', weights.named(segmenter.variables))
    for source in sorted(Path(vos_loader.__file__).parent.glob('*.py')):
        write_bytes(folder / 'vos_loader' / source.name, source.read_bytes())
    about |= {'format': FORMAT, 'files': _checksums(folder)}
    write_json(folder / 'about.json', about | {'checksum': checksum_of(about)})
    return about


def _checksums(folder):
    """CRC-32 of each file that was written, by its name in the folder."""
    paths = [*folder.glob('*.jax_export'), folder / 'weights.npz', *folder.glob('vos_loader/*.py')]
    return {path.relative_to(folder).as_posix(): checksum.of_file(path) for path in sorted(paths)}


def _exported(program, size, slots, num_entries, platforms):
    """The steps of a program over tuples of arrays: structures of this package stay here.

    `encode` takes (weights, frame), for models that memorise features; `step` takes
    (weights, entries, previous, frame, used, ids, position, is_read), see `steps.advance`.
    """
    like, model, precision = jax.ShapeDtypeStruct, program.model, program.precision
    leaves, variables = jax.tree.flatten(program.variables)
    entry, entries = jax.tree.flatten(program.entry_shapes(size, slots))
    last, previous = jax.tree.flatten(program.previous_shapes(size, slots))
    weights = tuple(like(leaf.shape, leaf.dtype) for leaf in leaves)
    frame = like((1, *size, 3), np.uint8)

    def encode(arrays, frame):
        with with_products(precision):
            return _leaves(steps.encode(model, variables.unflatten(arrays), frame))

    def step(arrays, memory, before, *rest):
        memory = tuple(map(entries.unflatten, memory))
        inputs = steps.Inputs(memory, previous.unflatten(before), *rest)
        with with_products(precision):
            result = steps.advance(model, variables.unflatten(arrays), inputs)
        labels, probabilities, *parts, time = result
        return labels, probabilities, *map(_leaves, parts), time

    small = like((1, slots), bool), like((256,), np.uint8), like((), np.int32), like((), bool)
    arguments = weights, (tuple(entry),) * num_entries, tuple(last), frame, *small
    found = {'step': export.export(jax.jit(step), platforms=platforms)(*arguments)}
    if model.memorises_features:
        found['encode'] = export.export(jax.jit(encode), platforms=platforms)(weights, frame)
    return found


def _leaves(tree):
    return tuple(jax.tree.leaves(tree))
