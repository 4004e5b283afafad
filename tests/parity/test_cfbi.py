"""CFBI's forward pass against the released code (parity/cfbi_forward.npz, see the README there).

Tolerances are those of the README: several times the noise between float32 and float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.cfbi_records import assert_labels, build, memory_of
from vos_jax.models.cfbi.model import Features
from vos_jax.models.cfbi.spec import WINDOWS
from vos_jax.ops import align, matching

BACKBONE = {
    'backbone_low_level': ('res2_2', 1e-4),
    'backbone_layer2': ('res3_3', 1e-4),
    'backbone_layer3': ('res4_22', 4e-4),
    'backbone_layer4': ('res5_2', 4e-4),
    'backbone_aspp': ('aspp', 4e-4),
    'backbone_decoder': ('decode2', 4e-4),
}
HEAD = {f'ens_ia{i}': f'gate{i}' for i in range(1, 12)}
HEAD |= {f'ens_layer{i}': f'block{i}' for i in range(1, 9)}
HEAD |= {'ens_layer1_gct': 'block1/gct', 'ens_aspp': 'aspp', 'ens_decoder': ''}


def run(model, method, variables, *args):
    """Result of a method, and what each module of the model gave."""

    def apply(variables, *args):
        return model.apply(
            variables, *args, method=method, capture_intermediates=True, mutable=['intermediates']
        )

    result, seen = jax.jit(apply)(variables, *args)
    return result, seen['intermediates']


def output(seen, path):
    """What the module at a path gave, when called once."""
    return functools.reduce(lambda tree, name: tree[name], path, seen)['__call__'][0]


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def at(features, index):
    """Features of the frames at an index or a list of indices."""
    index = np.atleast_1d(index)
    return Features(features.embedding[index], features.low[index], size=features.size)


def segment(model, variables, features, clips, num_slots, num_frames):
    """Segments the last frame of each clip as one batch.

    Args:
      features: of all frames of all clips.
      clips: list of (index of the first frame, labels of all but the last, number of objects).

    Returns:
      Prediction, and what each module gave.
    """
    memories, objects, current = [], [], []
    for first, labels, num_objects in clips:
        used = np.arange(num_slots)[None] < num_objects
        seen = [at(features, first + i) for i in range(len(labels))]
        memories.append(memory_of(model, variables, seen, labels, used, num_frames))
        objects.append(used)
        current.append(first + len(labels))
    memory = jax.tree.map(lambda *parts: jnp.concatenate(parts), *memories)
    rest = (memory, np.concatenate(objects), np.full(len(clips), 9))
    return run(model, 'segment', variables, at(features, current), *rest)


def compare_backbone(records, case, seen, features, first, num_frames):
    last = first + num_frames - 1
    for i in range(first, last + 1):
        name = 'embedding_current' if i == last else f'embedding{i - first}'
        embedding = channels_first(features.embedding[i : i + 1])
        records.compare(f'{case}/{name}', embedding, 1.5e-4)
    for name, (module, tolerance) in BACKBONE.items():
        full = channels_first(output(seen, ('backbone', module))[last : last + 1])
        records.compare(f'{case}/{name}', full, tolerance)


def compare_head(records, case, seen, prediction, clip, num_objects):
    """Compares clip number `clip` of the batch."""
    num_slots = prediction.logits.shape[1]

    def of_slots(x):
        slots = np.asarray(x).reshape(-1, num_slots, *x.shape[1:])
        return slots[clip, : num_objects + 1]

    prehead = np.maximum(of_slots(output(seen, ('prehead_norm',))), 0)
    records.compare(f'{case}/prehead', channels_first(prehead), 5e-4)
    for name, module in HEAD.items():
        found = output(seen, ('head', *filter(None, module.split('/'))))
        if isinstance(found, tuple):  # of a gate; the tenth gates a map before its enlargement
            size = found[-1].shape[1:3]
            found = np.concatenate(
                [align.resize(part, size, align.cubic_weights) for part in found], axis=-1
            )
        found = of_slots(found)
        records.compare(f'{case}/{name}', channels_first(found), 3e-3)
    for name, logits in zip(('fg_logit', 'bg_logit'), output(seen, ('output',)), strict=True):
        records.compare(f'{case}/{name}', of_slots(logits)[:, None], 3e-3)
    probabilities = np.asarray(prediction.probabilities[clip])
    records.compare(f'{case}/prob', probabilities[None, : num_objects + 1], 1e-3)
    assert (probabilities[num_objects + 1 :] == 0).all()
    one = jax.tree.map(lambda a: a[clip], prediction)
    assert_labels(one, records[f'{case}/label'], num_objects)


def compare_logits(records, case, prediction, clip, num_objects, tolerance):
    """Compares with logits that are stored at stride 4."""
    expected = align.resize_maps(records[f'{case}/logits_stride4'][0], prediction.logits.shape[2:])
    found = prediction.logits[clip, : num_objects + 1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=case)


def test_the_forward_pass_equals_the_released_one(records, cfbi_variables):
    """One, two, three and no objects in one batch; the third clip has two references."""
    model = build()
    cases = {name: records.case(name) for name in 'abd'}
    frames = np.concatenate([frames for frames, _, _ in cases.values()])
    features, seen = run(model, 'encode', cfbi_variables, frames)
    clips, first = [], 0
    for case, (own, labels, num_objects) in cases.items():
        compare_backbone(records, case, seen, features, first, len(own))
        clips.append((first, labels, num_objects))
        first += len(own)
    start, labels, _ = clips[1]
    clips.append((start, [label * 0 for label in labels], 0))
    prediction, seen = segment(model, cfbi_variables, features, clips, num_slots=3, num_frames=3)
    for clip, (case, (_, _, num_objects)) in enumerate(cases.items()):
        compare_head(records, case, seen, prediction, clip, num_objects)
    compare_logits(records, 'b_noobject', prediction, 3, 0, 3e-3)


@pytest.mark.slow
def test_absent_objects_and_another_size_equal_the_released_code(records, cfbi_variables):
    """Four objects, one absent from the reference, one from the previous mask; 120x164 frames."""
    frames, labels, num_objects = records.case('c')
    model = build()
    features, seen = run(model, 'encode', cfbi_variables, frames)
    compare_backbone(records, 'c', seen, features, 0, len(frames))
    clips = [(0, labels, num_objects)]
    prediction, seen = segment(model, cfbi_variables, features, clips, num_objects, 2)
    compare_head(records, 'c', seen, prediction, 0, num_objects)


@pytest.mark.long
@pytest.mark.parametrize(
    ('suffix', 'settings', 'tolerance'),
    [
        ('_atrous2', dict(global_atrous=2), 3e-3),
        ('_float16_atrous2', dict(global_atrous=2, matching_dtype='float16'), 0.2),
    ],
)
def test_the_fast_settings_equal_the_released_ones(
    records, cfbi_variables, suffix, settings, tolerance
):
    cases = {name: records.case(name) for name in 'bd'}
    frames = np.concatenate([frames for frames, _, _ in cases.values()])
    model = build(**settings)
    features, _ = run(build(), 'encode', cfbi_variables, frames)
    clips = [(0, *cases['b'][1:]), (3, *cases['d'][1:])]
    prediction, _ = segment(model, cfbi_variables, features, clips, num_slots=3, num_frames=3)
    compare_logits(records, f'b{suffix}', prediction, 0, 2, tolerance)
    if suffix == '_atrous2':
        compare_logits(records, f'd{suffix}', prediction, 1, 3, tolerance)


# From recorded embeddings: the noise of the maps alone.
MAPS = [
    ('b', 'b', 'float32', 1, 1e-5),
    ('c', 'c', 'float32', 1, 1e-5),
    ('b_atrous2', 'b', 'float32', 2, 1e-5),
    ('b_serial', 'b', 'float32', 1, 1e-5),
    ('b_float16_atrous1', 'b', 'float16', 1, 1e-2),
    ('b_float16_atrous2', 'b', 'float16', 2, 1e-2),
    ('b_float16_serial', 'b', 'float16', 1, 1e-2),
    ('b_float16_atrous1', 'b', 'bfloat16', 1, 1e-2),
]


@pytest.mark.parametrize(('case', 'inputs', 'dtype', 'rate', 'tolerance'), MAPS)
def test_matching_maps_equal_those_of_the_released_code(
    records, case, inputs, dtype, rate, tolerance
):
    embeddings = [
        np.moveaxis(records[f'{inputs}/{name}'], 1, -1)
        for name in ('embedding0', 'embedding1', 'embedding_current')
    ]
    _, labels, num_objects = records.case(inputs)
    bias = np.array([0.15] + [-0.1] * num_objects, np.float32)[:, None, None]
    found = jax.jit(functools.partial(maps, rate=rate, dtype=dtype))(embeddings, labels, bias)
    for name, values in found.items():
        if f'{case}/{name}' in records.arrays:
            records.compare(f'{case}/{name}', values[0], tolerance)


def maps(embeddings, labels, bias, rate, dtype):
    """Global and local maps [1, S, windows, h, w] by name."""
    reference, previous, current = embeddings
    height, width, channels = current.shape[1:]
    num_slots = bias.shape[0]
    used = np.ones((1, num_slots), bool)
    grid = [align.nearest(jnp.asarray(x, jnp.int32)[None], (height, width)) for x in labels]
    near = matching.match_globally(
        current.reshape(1, -1, channels),
        reference[:, ::rate, ::rate].reshape(1, -1, channels),
        grid[0][:, ::rate, ::rate].reshape(1, -1),
        num_slots,
        dtype,
    )
    near = matching.proxy(near.reshape(1, num_slots, height, width), bias)[:, :, None]
    half = (height // 2 + 1, width // 2 + 1)
    around = matching.match_locally(
        align.resize(current, half),
        align.resize(previous, half),
        align.nearest(grid[1], half),
        num_slots,
        WINDOWS,
        dtype,
    )
    around = align.resize_maps(matching.proxy(around, bias), (height, width))
    around = jnp.moveaxis(around, 2, 1)
    return dict(
        global_fg=near,
        global_bg=matching.others(near, used),
        local_fg=around,
        local_bg=matching.others(around, used),
    )
