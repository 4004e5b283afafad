"""The records of the released CFBI code (parity/cfbi_*), and its weights, made by rule."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep import import_weights
from vos_jax.compilation import RUN_ONCE
from vos_jax.models import protocol, registry
from vos_jax.models.cfbi.torch_names import CONFIG, FORMATS

# Of what runs for minutes; all that XLA can do takes twice as long to compile.
OPTIONS = RUN_ONCE | {'xla_backend_optimization_level': 1}


def variables_of(theirs):
    """Our variables, through the importer."""
    return import_weights.variables_of(theirs, FORMATS['cfbi'], 'the generated state_dict')


def build(**changes):
    """The released model, with other settings."""
    return registry.build(registry.read_model(CONFIG['model'] | changes))


class Records:
    """cfbi_forward.npz: arrays `case/name`, of which some are stored subsampled."""

    def __init__(self, path):
        self.arrays = np.load(path)
        meta = json.loads(str(self.arrays['meta_json']))
        self._strides, self._cases = meta['strides'], meta['cases']

    def __getitem__(self, key):
        if key not in self.arrays or key in self._strides:
            pytest.skip(f'{key} is whole in the full records alone; VOS_SHARED may name them')
        return self.arrays[key]

    def case(self, name):
        """Frames u8[N, H, W, 3] (references, previous, current) and labels of all but the last."""
        if name not in self._cases:
            pytest.skip(f'case {name} is in the full records alone; VOS_SHARED may name them')
        about = self._cases[name]
        frames = np.stack([self[f'{name}/image{i}'] for i in range(about['frames'])])
        known = [self[f'{name}/ref_label{i}'] for i in range(len(about['references']))]
        return frames, [*known, self[f'{name}/prev_label']], about['objects']

    def compare(self, key, full, tolerance):
        """Compares an array of ours, in the released layout, with what is stored of theirs."""
        steps = self._strides.get(key, [1] * full.ndim)
        part = np.asarray(full)[tuple(slice(None, None, step) for step in steps)]
        np.testing.assert_allclose(part, self.arrays[key], rtol=0, atol=tolerance, err_msg=key)


def memory_of(model, variables, features, labels, objects, num_frames):
    """Memory of one clip: references first, then empty frames, the previous frame last.

    Args:
      features: of each frame, B = 1.
      labels: u8[H, W] of each frame.
      objects: bool[1, K].
      num_frames: T.
    """
    slots = np.arange(1, objects.shape[1] + 1)[:, None, None]
    entries = []
    for time, (seen, label) in enumerate(zip(features, labels, strict=True)):
        masks = protocol.given_masks(jnp.asarray(label == slots, jnp.float32)[None])
        masks = masks.replace(given=jnp.full(1, time < len(labels) - 1))
        rest = (seen, masks, jnp.asarray(objects), jnp.full(1, time))
        entries.append(model.apply(variables, None, *rest, method='memorise'))
    empty = [jax.tree.map(jnp.zeros_like, entries[0])] * (num_frames - len(entries))
    return protocol.assemble([*entries[:-1], *empty, entries[-1]])


def assert_labels(prediction, expected, num_objects):
    """Equal to u8[H, W] where the two best probabilities differ by 1e-3; prediction of one clip."""
    probabilities = np.asarray(prediction.probabilities)[: num_objects + 1]
    ranked = np.sort(probabilities, axis=0)
    margin = ranked[-1] - ranked[-2] if num_objects else np.ones(expected.shape)
    wrong = probabilities.argmax(axis=0) != expected
    assert margin[wrong].max(initial=0.0) < 1e-3
    assert wrong.mean() < 1e-3
