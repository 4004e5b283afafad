"""What a train step costs on a TPU slice, estimated from shapes: work, memory, traffic, time.

The bounds of a roofline: products at the chip's peak, their operands once through its memory, what
crosses between chips at the speed of its links. A real step is slower; how much is only known once
it was measured, so the ratio of two estimates says more than one of them.
"""

import dataclasses
import math
from typing import NamedTuple

import jax

from vos_jax.config.schema import MeshSpec
from vos_jax.errors import InputError
from vos_jax.training import flops, sharding
from vos_jax.training.program import Program
from vos_jax.training.remat import bytes_of


class Chip(NamedTuple):
    """A TPU chip, by Google Cloud's system architecture pages (bfloat16 peak, all links)."""

    kind: str
    peak: float  # operations a second
    memory_bytes: int
    memory_rate: float  # bytes a second
    link_rate: float  # bytes a second, of all links of a chip together
    num_sides: int  # of the shape of a slice

    def describe(self):
        """'v5e: 197 TFLOP/s, 16 GiB at 819 GB/s, links 200 GB/s'."""
        return (
            f'{self.kind}: {self.peak / 1e12:.0f} TFLOP/s, {self.memory_bytes / 2**30:.0f} GiB at '
            f'{self.memory_rate / 1e9:.0f} GB/s, links {self.link_rate / 1e9:.0f} GB/s'
        )


CHIPS = {
    chip.kind: chip
    for chip in (
        Chip('v4', 275e12, 32 * 2**30, 1228e9, 300e9, 3),
        Chip('v5e', 197e12, 16 * 2**30, 819e9, 200e9, 2),
        Chip('v5p', 459e12, 95 * 2**30, 2765e9, 600e9, 3),
        Chip('v6e', 918e12, 32 * 2**30, 1638e9, 400e9, 2),
    )
}


HOP_S = 1e-6  # latency from a chip to its neighbour ("How to scale your model", on TPUs)


class Work(NamedTuple):
    """What one step of a config takes, on all chips together.

    Attributes:
      batch: clips; rows: rows of the deepest features, which `spatial` divides.
      flops: operations, recomputation left out; done: with it.
      product_bytes: operands and results of all products.
      halo_bytes: border rows that a split of the images once would exchange, for all clips.
      halos: number of such exchanges, all clips at once.
      gathered_bytes: features that each part of an image needs from all others.
      weight_bytes, state_bytes: of the weights; of weights, average and optimizer together.
    """

    batch: int
    rows: int
    flops: float
    done: float
    product_bytes: float
    halo_bytes: float
    halos: float
    gathered_bytes: float
    weight_bytes: int
    state_bytes: int

    def describe(self):
        """Two lines for the plan."""
        return (
            f'a step of {self.batch} clips: {self.flops / 1e12:.2f} TFLOP '
            f'({self.done / 1e12:.2f} with recomputation), '
            f'{self.product_bytes / 2**30:.1f} GiB through the products\n'
            f'weights {self.weight_bytes / 2**20:.0f} MiB, with optimizer and average '
            f'{self.state_bytes / 2**20:.0f} MiB'
        )


class Row(NamedTuple):
    """The estimate for one mesh: policy of rematerialisation, seconds of a step, of its parts."""

    sizes: tuple
    remat: str
    step_s: float
    work_s: float
    memory_s: float
    links_s: float
    state_bytes: float  # per chip
    fits: bool

    @property
    def mesh(self):
        """dict of axis -> size."""
        return dict(zip(sharding.AXES, self.sizes))

    def figures(self):
        """dict for a file."""
        return {f'estimated_{k}': v for k, v in self._asdict().items() if k.endswith('_s')}

    def describe(self):
        """One line."""
        text = ' x '.join(f'{size:3d}' for size in self.sizes)
        parts = f'{1e3 * self.work_s:.1f} / {1e3 * self.memory_s:.1f} / {1e3 * self.links_s:.1f}'
        state = f'state {self.state_bytes / 2**20:.0f} MiB per chip'
        return f'{text}: {1e3 * self.step_s:8.1f} ms ({parts})  {self.remat:8}  {state}'


def program_of(config):
    """The program of a config on one device of this machine, to be traced."""
    return Program(dataclasses.replace(config, mesh=MeshSpec()), jax.devices()[:1])


def work_of(config):
    """Work of a config's step, from its trace; nothing is compiled."""
    program = program_of(config)
    jaxpr = program.trace().jaxpr
    sizes = flops.tally(jaxpr)
    params = program.state.params
    return Work(
        batch=config.data.batch_size,
        rows=-(-config.data.crop[0] // program.model.stride),
        flops=sizes.needed,
        done=sizes.done,
        product_bytes=sizes.bytes,
        halo_bytes=sizes.halo_bytes,
        halos=sizes.halos,
        gathered_bytes=sizes.gathered_bytes,
        weight_bytes=bytes_of(params),
        state_bytes=bytes_of(program.state),
    )


def meshes(batch, rows, count):
    """Each mesh of `count` chips among which clips and rows divide: list of sizes of its axes."""
    found = []
    for parts in range(1, count + 1):
        if count % parts or batch % parts or count // parts > rows:
            continue
        for fsdp in range(1, parts + 1):
            if parts % fsdp == 0:
                found.append((parts // fsdp, fsdp, count // parts))
    if not found:
        raise InputError(
            f'{count} chips are too many for {batch} clips of {rows} rows of features '
            f'(at most {batch * rows}): raise data.batch_size, see docs/tpu_pods.md#batch'
        )
    return found


def estimate(work, chip, sizes, remat):
    """Row of a mesh.

    Args:
      work: Work; chip: Chip.
      sizes: of the axes data, fsdp, spatial.
      remat: policy of `work`.
    """
    _, fsdp, spatial = sizes
    count = math.prod(sizes)
    # Rows that do not divide: the chip with the most sets the pace.
    uneven = math.ceil(work.rows / spatial) * spatial / work.rows
    work_s = uneven * work.done / count / chip.peak
    memory_s = uneven * work.product_bytes / count / chip.memory_rate
    memory_s += 3 * work.state_bytes / fsdp / chip.memory_rate  # read, and written, by the update
    links_s = _traffic(work, sizes) / chip.link_rate
    if spatial > 1:
        links_s += HOP_S * work.halos
    state = work.state_bytes / fsdp + (work.weight_bytes if fsdp > 1 else 0)
    step_s = max(work_s, memory_s) + links_s
    fits = state < chip.memory_bytes
    return Row(sizes, remat, step_s, work_s, memory_s, links_s, state, fits)


def _traffic(work, sizes):
    """Bytes that a chip sends in a step."""
    data, fsdp, spatial = sizes
    replicas = data * spatial
    # Gradients: a sum over all chips by rings, and with fsdp the weights gathered before.
    gradients = 2 * work.weight_bytes / fsdp * (replicas - 1) / replicas
    weights = 2 * work.weight_bytes * (fsdp - 1) / fsdp
    halo = 0 if spatial == 1 else work.halo_bytes / (data * fsdp)
    gathered = work.gathered_bytes / (data * fsdp) * (spatial - 1) / spatial
    return gradients + weights + halo + gathered
