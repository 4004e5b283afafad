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
    programs = _Programs(segmenter.program, size, slots)
    exported = {'step': programs.step(num_entries, platforms)}
    if segmenter.model.memorises_features:
        exported['encode'] = programs.encode(platforms)
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


class _Programs:
    """The steps of a model over tuples of arrays: structures of this package stay here."""

    def __init__(self, program, size, slots):
        like = jax.ShapeDtypeStruct
        self._model, self._precision = program.model, program.precision
        self._variables = jax.tree.structure(program.variables)
        leaves = jax.tree.leaves(program.variables)
        self._weights = tuple(like(leaf.shape, leaf.dtype) for leaf in leaves)
        self._frame, self._used = like((1, *size, 3), np.uint8), like((1, slots), bool)
        self._previous = program.previous_shapes(size, slots)
        self._entry = program.entry_shapes(size, slots)

    def step(self, num_entries, platforms):
        """`steps.advance`: (weights, entries, previous, frame, used, ids, position, is_read)."""

        def call(arrays, entries, previous, *rest):
            entries = tuple(jax.tree.unflatten(jax.tree.structure(self._entry), e) for e in entries)
            previous = jax.tree.unflatten(jax.tree.structure(self._previous), previous)
            variables = jax.tree.unflatten(self._variables, arrays)
            inputs = steps.Inputs(entries, previous, *rest)
            with with_products(self._precision):
                result = steps.advance(self._model, variables, inputs)
            labels, probabilities, *parts, time = result
            return labels, probabilities, *map(_leaves, parts), time

        return export.export(jax.jit(call), platforms=platforms)(
            self._weights,
            (_leaves(self._entry),) * num_entries,
            _leaves(self._previous),
            self._frame,
            self._used,
            jax.ShapeDtypeStruct((256,), np.uint8),
            jax.ShapeDtypeStruct((), np.int32),
            jax.ShapeDtypeStruct((), bool),
        )

    def encode(self, platforms):
        """`steps.encode`: (weights, frame)."""

        def call(arrays, frame):
            variables = jax.tree.unflatten(self._variables, arrays)
            with with_products(self._precision):
                return _leaves(steps.encode(self._model, variables, frame))

        return export.export(jax.jit(call), platforms=platforms)(self._weights, self._frame)


def _leaves(tree):
    return tuple(jax.tree.leaves(tree))
