"""The rules of sharding on meshes of virtual devices, and a whole step against one device."""

import dataclasses
import itertools
import json
import os
import re
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


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device as JAX describes that of a TPU."""

    id: int
    process_index: int
    coords: tuple = (0, 0, 0)
    slice_index: int = 0
    platform: str = 'tpu'
    device_kind: str = 'TPU v5 lite'
    core_on_chip: int = 0


def chips(side, slices=1):
    """Slices of side x side chips, each 2 x 2 of them the chips of a host."""
    found = []
    for number in range(slices):
        for y, x in itertools.product(range(side), range(side)):
            process = (number * side + y) // 2 * (side // 2) + x // 2
            found.append(Chip(len(found), process, (x, y, 0), number))
    return found


@pytest.mark.parametrize(
    ('count', 'clips', 'settings', 'wanted'),
    [
        (4, 8, {}, (4, 1, 1)),
        (1, 8, {}, (1, 1, 1)),
        (4, 8, {'fsdp': 2}, (2, 2, 1)),
        (4, 8, {'spatial': 2}, (2, 1, 2)),
        (4, 2, {}, (2, 1, 2)),  # fewer clips than devices: rows, too
        (4, 6, {}, (2, 1, 2)),
        (3, 8, {}, (1, 1, 3)),
        (4, 8, {'data': 2}, (2, 1, 1)),
    ],
)
def test_all_devices_are_used_by_default(count, clips, settings, wanted):
    def one_process(chip):
        return dataclasses.replace(chip, process_index=0, platform='cpu')

    devices = list(map(one_process, chips(2)[:count]))
    mesh = sharding.make_mesh(read(MeshSpec, settings, 'mesh'), devices, clips, 30)
    assert mesh.devices.shape == wanted
    assert list(mesh.devices.flat) == devices[: mesh.size]


@pytest.mark.parametrize(
    ('count', 'clips', 'accumulate', 'settings', 'words'),
    [
        (7, 6, 1, {}, 'data.batch_size=7 would'),
        (6, 4, 1, {}, 'data.batch_size=6 would'),
        (10, 11, 1, {}, 'data.batch_size=20 would'),
        (7, 6, 2, {}, 'data.batch_size=14 would'),
        (4, 4, 1, {'data': 2}, 'mesh.data=-1 would'),
        (4, 2, 1, {'data': 1, 'fsdp': 2}, 'mesh.data=-1 and data.batch_size=4 would'),
        (12, 4, 1, {'spatial': 2}, 'data.batch_size=6 would'),
        (7, 6, 1, {'spatial': 2}, 'mesh.fsdp x mesh.spatial = 2 must divide 7'),
    ],
)
def test_idle_devices_are_explained_by_what_would_use_them(
    count, clips, accumulate, settings, words
):
    devices = [Chip(number, number % 2, platform='cpu') for number in range(count)]
    spec = read(MeshSpec, settings, 'mesh')
    with pytest.raises(InputError, match=f'can leave none idle: {words}'):
        sharding.make_mesh(spec, devices, clips, 2, accumulate)
    if found := re.search(r'batch_size=(\d+)', words):
        free, clips = dataclasses.replace(spec, data=-1), int(found[1]) // accumulate
        assert sharding.make_mesh(free, devices, clips, 2, accumulate).size == count


def test_no_more_rows_are_split_than_there_are():
    devices = [Chip(number, 0, platform='cpu') for number in range(8)]
    assert sharding.make_mesh(MeshSpec(), devices, clips=1, rows=3).devices.shape == (1, 1, 2)


def test_a_slice_is_used_as_the_plan_says():
    mesh = sharding.make_mesh(MeshSpec(), chips(16), clips=16, rows=24)
    assert mesh.devices.shape == (16, 1, 16)


@pytest.mark.parametrize(('side', 'clips'), [(4, 16), (4, 8), (8, 16), (16, 16)])
def test_chips_of_a_mesh_are_neighbours_and_processes_keep_their_clips(side, clips):
    mesh = sharding.make_mesh(MeshSpec(), chips(side), clips, rows=30)
    assert len(set(mesh.devices.flat)) == side**2
    places = mesh.devices.reshape(clips, -1)
    for process in range(side**2 // 4):
        own = [i for i, row in enumerate(places) if process in {d.process_index for d in row}]
        assert own == list(range(own[0], own[0] + len(own)))
        assert own[0] % len(own) == 0


# A row of the slice for each clip, and the chips of a host.
@pytest.mark.parametrize('clips', [8, 16])
def test_of_the_chips_of_a_clip_each_is_a_neighbour_of_the_next(clips):
    mesh = sharding.make_mesh(MeshSpec(), chips(8), clips, rows=30)
    for row in mesh.devices.reshape(clips, -1):
        steps = [
            sum(abs(a - b) for a, b in zip(one.coords, other.coords))
            for one, other in itertools.pairwise(row)
        ]
        assert max(steps) == 1


def test_rows_and_weights_are_not_split_across_slices():
    mesh = sharding.make_mesh(MeshSpec(), chips(4, slices=2), clips=8, rows=30)
    assert mesh.devices.shape == (8, 1, 4)
    for row in mesh.devices.reshape(8, 4):
        assert len({device.slice_index for device in row}) == 1
    for settings in ({'data': 1, 'spatial': 32}, {'data': 1, 'fsdp': 32}):
        with pytest.raises(InputError, match='must be a multiple of 2'):
            sharding.make_mesh(read(MeshSpec, settings, 'mesh'), chips(4, slices=2), 32, 32)


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
