"""The rules of sharding on meshes of virtual devices, and a whole step against one device."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from tests.conftest import REPOSITORY, devices_flag
from vos_jax.config.read import read
from vos_jax.config.schema import MeshSpec
from vos_jax.errors import InputError
from vos_jax.training import sharding


def mesh_of(*sizes):
    """A mesh without devices: rules need no more."""
    return AbstractMesh(sizes, sharding.AXES)


def shape(*sides, dtype=np.float32):
    return jax.ShapeDtypeStruct(sides, dtype)


def batch_of(clips, rows):
    frames = shape(clips, 4, rows, 64, 3, dtype=np.uint8)
    return {'frames': frames, 'labels': shape(clips, 4, rows, 64), 'objects': shape(clips, 2)}


def test_weights_are_split_along_their_longest_side_that_divides():
    tree = {'kernel': shape(3, 3, 64, 256), 'odd': shape(7, 7, 3, 64), 'bias': shape(256)}
    specs = sharding.shard_state(tree, mesh_of(2, 4, 1))
    assert specs['kernel'].spec == P(None, None, None, 'fsdp')
    assert specs['odd'].spec == P(None, None, None, 'fsdp')
    assert specs['bias'].spec == P()  # small


def test_without_fsdp_weights_are_whole():
    specs = sharding.shard_state({'kernel': shape(3, 3, 64, 256)}, mesh_of(8, 1, 1))
    assert specs['kernel'].spec == P()


def test_a_large_array_that_cannot_be_split_is_refused():
    with pytest.raises(InputError, match=r"'kernel' of shape \[1001, 1001\] cannot be split"):
        sharding.shard_state({'kernel': shape(1001, 1001)}, mesh_of(1, 4, 1))


def test_clips_lie_over_data_and_fsdp_and_rows_over_spatial():
    specs = sharding.shard_batch(batch_of(8, 64), mesh_of(2, 2, 2))
    assert specs['frames'].spec == P(('data', 'fsdp'), None, 'spatial')
    assert specs['objects'].spec == P(('data', 'fsdp'))


def test_rows_that_do_not_divide_arrive_whole():
    specs = sharding.shard_batch(batch_of(8, 465), mesh_of(2, 2, 2))
    assert specs['labels'].spec == P(('data', 'fsdp'), None, None)


@pytest.mark.parametrize(('clips', 'accumulate'), [(6, 1), (8, 4)])
def test_clips_that_do_not_divide_are_refused(clips, accumulate):
    with pytest.raises(InputError, match=f"'data.batch_size' is {clips}"):
        sharding.shard_batch(batch_of(clips, 64), mesh_of(2, 2, 1), accumulate)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'data': 1000}, '= 1000 devices; there are'),
        ({'data': 0}, "'mesh.data' is 0"),
        ({'model': 2}, "'mesh.model' is not a setting; nearest: 'mesh."),
    ],
)
def test_meshes_that_cannot_be_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        sharding.make_mesh(read(MeshSpec, settings, 'mesh'))


def test_one_process_reads_all_clips_and_places_them():
    mesh = sharding.make_mesh(MeshSpec(), jax.devices()[:1])
    batch = {
        'frames': np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 3, 4, 5, 3),
        'labels': np.zeros((2, 3, 4, 5), np.uint8),
        'objects': np.ones((2, 1), bool),
    }
    places = sharding.shard_batch(batch, mesh)
    assert sharding.local_clips(places['objects'], 2) == (0, 2)
    placed = sharding.to_devices(batch, places)
    np.testing.assert_array_equal(placed['frames'], batch['frames'])


@pytest.mark.long
@pytest.mark.parametrize('model', ['giel', 'cfbi'])
def test_eight_devices_give_the_loss_and_gradients_of_one(model):
    flags = {'XLA_FLAGS': devices_flag(8), 'JAX_PLATFORMS': 'cpu'}
    finished = subprocess.run(
        [sys.executable, '-m', 'tests.training.layouts', model],
        cwd=REPOSITORY,
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [row['layout'] for row in rows] == [[8, 1, 1], [2, 4, 1], [2, 1, 4], [2, 2, 2]]
    for row in rows:
        # float32: sums have another order; relative to the largest value of each array.
        assert row['loss'] < 1e-5, row
        assert row['gradients'] < 1e-5, row
        assert row['memory'] < 0.6, row  # an eighth, and border rows and gathered weights
