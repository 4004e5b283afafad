"""The order of devices on a slice, by programs compiled for it; needs libtpu, see docs/tpu_pods.md.

python -m pytest -s tests/training/test_topology.py
"""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vos_jax.config.schema import MeshSpec
from vos_jax.planning import hlo, slices
from vos_jax.training import sharding

CLIPS = 8


def compiled_for(mesh):
    """The text of the gradient of a few convolutions of images whose rows are split."""

    def loss(kernels, x):
        for kernel in kernels:
            x = jnp.tanh(
                jax.lax.conv_general_dilated(
                    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
                )
            )
        return x.sum()

    images = NamedSharding(mesh, P(sharding.BATCH, 'spatial'))
    whole = NamedSharding(mesh, P())
    kernels = [jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.bfloat16)] * 4
    x = jax.ShapeDtypeStruct((CLIPS, 128, 128, 128), jnp.bfloat16)
    step = jax.jit(jax.grad(loss), in_shardings=(whole, images), out_shardings=whole)
    return step.lower(kernels, x).compile().as_text()


def exchanged(text, devices):
    """Bytes between neighbours along `spatial` that all chips send, and the same times the hops."""
    total = travelled = 0
    for line in text.splitlines():
        pairs = re.search(r'source_target_pairs=\{(.*?)\}\}', line)
        (found,) = hlo.collectives(f'ENTRY %main () -> f32[] {{\n{line}\n}}').values() or ((0, 0),)
        if pairs and found[1]:
            ends = np.array(re.findall(r'\d+', pairs[1]), int).reshape(-1, 2)
            hops = [sum(abs(np.subtract(*(devices[i].coords for i in pair)))) for pair in ends]
            total += found[1] * len(ends)
            travelled += found[1] * sum(hops)
    return total, travelled


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec('libtpu') is None, reason='needs libtpu')
@pytest.mark.parametrize('topology', ['v5e:8x8', 'v5p:2x4x4'])
def test_border_rows_travel_one_hop_in_our_order(topology):
    devices = slices.devices_of(topology)
    ours = sharding.make_mesh(MeshSpec(), devices, CLIPS, rows=64)
    plain = sorted(devices, key=lambda one: (one.process_index, one.id))
    plain = Mesh(np.array(plain).reshape(ours.devices.shape), sharding.AXES)
    figures = {}
    for name, mesh in (('ours', ours), ('by number', plain)):
        text = compiled_for(mesh)
        figures[name] = *exchanged(text, list(mesh.devices.flat)), hlo.collectives(text)
        print(topology, dict(mesh.shape), name, figures[name])
    assert figures['ours'][0] == figures['by number'][0] > 0
    assert figures['ours'][1] == figures['ours'][0] < figures['by number'][1]
