"""Pixel matching of CFBI (section 3.2): the distance to the nearest pixel of each object slot.

Label maps are hard: a pixel belongs to one slot or to none. That is used twice. Global matching
sorts the reference pixels by slot, so that each block of them serves one slot and the work does
not grow with the number of objects. Both matchings keep running minima; neither holds a matrix of
all distances. For the gradient they keep the index of the nearest pixel, not distances.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vos_jax.ops import nearest as nearest_of_blocks
from vos_jax.ops.cpu import switch
from vos_jax.ops.tiling import by_tiles

# Stands for the squared distance to nothing; every bias leaves its proxy at exactly 1.
FAR = 5e4
BLOCK = 256
# Queries that a CPU matches at a time: their distances to a block, 2 MB, stay in its cache.
TILE = 2048
# Distances that an accelerator holds at once, 256 MB.
CHUNK_VALUES = 2**26


class Blocks(NamedTuple):
    """Pixels sorted by slot into N blocks of which each holds pixels of one slot."""

    source: jax.Array  # i32[B, N, R], pixel at each place
    valid: jax.Array  # bool[B, N, R], whether the place is in use
    slots: jax.Array  # i32[B, N], slot of each block; S: none
    count: jax.Array  # i32 scalar, blocks in use, at most N; they are the first ones


def proxy(distances, bias):
    """Squared distances f32[...] as values in (-1, 1]: 2 (sigmoid(d + b) - 1/2) (CFBI, Eq. 1).

    `bias`: of the slot, scalar or an array that broadcasts.
    """
    return jnp.tanh(0.5 * (distances + bias))


def others(maps, used):
    """The background map of each slot: the minimum over the other slots in use (CFBI, Eq. 3).

    Maps f32[B, S, ...] and used bool[B, S] -> f32[B, S, ...]; a slot without any other slot in use
    gets its own map.
    """
    shape = used.shape + (1,) * (maps.ndim - 2)
    usable = jnp.where(used.reshape(shape), maps, FAR)
    slots = jnp.arange(maps.shape[1]).reshape(1, -1, *shape[2:])
    is_nearest = jnp.argmin(usable, axis=1, keepdims=True) == slots
    nearest = usable.min(axis=1, keepdims=True)
    second = jnp.where(is_nearest, FAR, usable).min(axis=1, keepdims=True)
    has_others = used.sum(axis=1, keepdims=True) - used > 0
    return jnp.where(has_others.reshape(shape), jnp.where(is_nearest, second, nearest), maps)


def match_globally(query, references, labels, num_slots, dtype=jnp.float32, *, fused=False):
    """Squared distance of each query pixel to the nearest reference pixel of each slot.

    Args:
      query: [B, Q, C].
      references: [B, P, C], pixels of one or several frames.
      labels: i32[B, P], slot of each reference pixel; other values belong to no slot.
      num_slots: S.
      dtype: of the products; norms and sums are float32.
      fused: whether accelerators compute products and minima in one kernel (`ops.nearest`).

    Returns:
      f32[B, S, Q]; FAR or more where a slot has no pixel.
    """
    query, references = jnp.asarray(query, dtype), jnp.asarray(references, dtype)
    known = (labels >= 0) & (labels < num_slots)
    return _nearest(query, references, jnp.where(known, labels, num_slots), num_slots, fused)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _nearest(query, references, labels, num_slots, fused):
    return _walk_blocks(query, references, labels, num_slots, fused, indexed=False)[0]


def _nearest_forward(query, references, labels, num_slots, fused):
    distances, index = _walk_blocks(query, references, labels, num_slots, fused, indexed=True)
    return distances, (query, references, index)


def _nearest_backward(num_slots, fused, residuals, cotangent):
    del fused
    query, references, index = residuals
    query32 = query.astype(jnp.float32)
    batch = jnp.arange(query.shape[0])[:, None]

    def add_slot(gradients, slot):
        to_query, to_references = gradients
        at, weight = slot  # [B, Q]
        weight = jnp.where(at >= 0, 2.0 * weight, 0.0)[..., None]
        at = jnp.maximum(at, 0)
        step = weight * (query32 - references[batch, at].astype(jnp.float32))
        return (to_query + step, to_references.at[batch, at].add(-step)), None

    zeros = (jnp.zeros_like(query32), jnp.zeros(references.shape, jnp.float32))
    slots = (jnp.moveaxis(index, 1, 0), jnp.moveaxis(cotangent, 1, 0))
    (to_query, to_references), _ = lax.scan(add_slot, zeros, slots)
    no_labels = np.zeros(references.shape[:2], jax.dtypes.float0)
    return to_query.astype(query.dtype), to_references.astype(references.dtype), no_labels


_nearest.defvjp(_nearest_forward, _nearest_backward)


def _walk_blocks(query, references, labels, num_slots, fused, indexed):
    """Minima over blocks of reference pixels, f32[B, S, Q], and their pixels i32[B, S, Q] or None.

    Blocks that are not in use, those of empty frames of a memory, are left out.
    """
    blocks = _blocks_of_slots(labels, num_slots)
    settings = dict(num_slots=num_slots, indexed=indexed)
    in_turn = functools.partial(_walk_in_tiles, **settings)
    at_once = functools.partial(_choose_chunks, fused=fused, **settings)
    return switch.on_cpu('tiles', in_turn, at_once, query, references, blocks)


def _choose_chunks(query, references, blocks, **settings):
    """Walks the fewest chunks, of a ladder of numbers, that hold the blocks in use.

    No loop depends on the labels: a GPU would ask the host at each step whether to continue.
    """
    batch, num_query, _ = query.shape
    most = blocks.source.shape[1]
    in_chunk = max(1, min(most, CHUNK_VALUES // (batch * num_query * BLOCK)))
    lengths = [-(-most // in_chunk)]
    while lengths[0] > 2:
        lengths.insert(0, -(-lengths[0] // 2))
    numbers = np.array(lengths) * in_chunk
    chosen = (_largest(blocks.count) > numbers[:-1]).sum()
    walks = [
        functools.partial(_scan_chunks, length=length, in_chunk=in_chunk, **settings)
        for length in lengths
    ]
    return lax.switch(chosen, walks, query, references, blocks)


@jax.custom_batching.custom_vmap
def _largest(count):
    """The scalar itself; of several videos side by side the largest, so that one choice is made."""
    return count


@_largest.def_vmap
def _largest_of_videos(axis_size, in_batched, count):
    del axis_size
    return (count.max() if in_batched[0] else count), False


def _scan_chunks(query, references, blocks, *, length, in_chunk, num_slots, indexed, fused):
    """`_walk_blocks` over the first `length` chunks of `in_chunk` blocks each."""
    batch, num_query, _ = query.shape
    number = length * in_chunk
    source, valid, block_slots = (
        jnp.pad(x[:, :number], [(0, 0), (0, max(0, number - x.shape[1]))] + [(0, 0)] * (x.ndim - 2))
        for x in (blocks.source, blocks.valid, blocks.slots)
    )
    place = source.reshape(batch, -1)
    valid = valid.reshape(batch, -1)
    pixels = jnp.take_along_axis(references, place[..., None], axis=1)  # all rows, once
    norms = jnp.where(valid, _norms(pixels), FAR)
    pixels = jnp.where(valid[..., None], pixels, 0)

    def in_chunks(x):
        return jnp.moveaxis(x.reshape(batch, length, in_chunk * BLOCK, *x.shape[2:]), 1, 0)

    def minima(chunk):
        rows, norms = chunk
        distances = norms[..., None] - 2.0 * _products('brc,bqc->brq', rows, query)
        distances = distances.reshape(batch, in_chunk, BLOCK, num_query)
        return distances.min(axis=2), distances.argmin(axis=2) if indexed else None

    if fused:
        low, nearest = nearest_of_blocks.minima(pixels, norms, query, BLOCK)
    else:
        found = lax.map(minima, (in_chunks(pixels), in_chunks(norms)))  # [length, B, c, Q]
        whole = functools.partial(jnp.reshape, shape=(batch, number, num_query))
        low, nearest = jax.tree.map(lambda x: whole(jnp.moveaxis(x, 0, 1)), found)
    low = low[:, None]
    is_slot = block_slots[:, None] == jnp.arange(num_slots)[:, None]  # [B, S, N]
    low = jnp.where(is_slot[..., None], low, FAR)
    lowest = low.min(axis=2)
    result = lowest + _norms(query)[:, None]
    if not indexed:
        return result, None
    block = low.argmin(axis=2)  # [B, S, Q]
    row = block * BLOCK + jnp.take_along_axis(nearest, block, axis=1)
    index = jnp.take_along_axis(place[:, None], row, axis=2)
    return result, jnp.where(lowest < FAR, index, -1)


def _walk_in_tiles(query, references, blocks, num_slots, indexed):
    """`_walk_blocks` in tiles of queries whose distances to a block stay in a CPU's cache."""
    walk = functools.partial(_walk, num_slots=num_slots, indexed=indexed)
    if query.shape[1] <= TILE:
        return walk(query, references, blocks)
    return by_tiles(lambda tile, _: walk(tile, references, blocks), query, TILE, axis=-1)


def _walk(query, references, blocks, num_slots, indexed):
    """`_walk_blocks` with the blocks given, for all queries at once."""
    source, valid, block_slots, num_blocks = blocks
    batch, num_query, _ = query.shape
    rows = jnp.arange(batch)[:, None]
    slots = jnp.arange(num_slots)
    places = jnp.arange(BLOCK, dtype=jnp.int32)[:, None]

    def add_block(i, state):
        lowest, index = state
        at, is_pixel = source[:, i], valid[:, i]
        block = references[rows, at]  # [B, R, C]
        # Minima over rows: a minimum along the last axis is not vectorised on CPUs.
        distances = _norms(block)[..., None] - 2.0 * _products('brc,bqc->brq', block, query)
        distances = jnp.where(is_pixel[..., None], distances, FAR)
        low = distances.min(axis=1)
        here = (block_slots[:, i, None] == slots)[..., None]  # [B, S, 1]
        is_lower = here & (low[:, None] < lowest)
        if indexed:
            # A plain minimum over places: XLA's argmin takes twice as long on CPUs.
            place = jnp.where(distances <= low[:, None], places, BLOCK - 1).min(axis=1)
            found = jnp.take_along_axis(at, place, axis=1)
            index = jnp.where(is_lower, found[:, None], index)
        return jnp.where(is_lower, low[:, None], lowest), index

    lowest = jnp.full((batch, num_slots, num_query), FAR, jnp.float32)
    index = jnp.full(lowest.shape, -1, jnp.int32) if indexed else None
    lowest, index = lax.fori_loop(0, num_blocks, add_block, (lowest, index))
    return lowest + _norms(query)[:, None], index


def _blocks_of_slots(labels, num_slots):
    """Sorts pixels by slot, i32[B, P] of 0..S-1 or S for none, into Blocks."""
    batch, num_pixels = labels.shape
    num_blocks = -(-num_pixels // BLOCK) + num_slots
    order = jnp.argsort(labels, axis=1).astype(jnp.int32)
    counts = (labels[:, :, None] == jnp.arange(num_slots)).sum(axis=1)  # [B, S]
    blocks = -(-counts // BLOCK)
    last, first = jnp.cumsum(blocks, axis=1), jnp.cumsum(counts, axis=1) - counts
    number = jnp.arange(num_blocks)
    block_slots = (number[None, :, None] >= last[:, None]).sum(axis=-1)  # [B, N], S when unused
    slot = jnp.minimum(block_slots, num_slots - 1)
    pick = functools.partial(jnp.take_along_axis, indices=slot, axis=1)
    rank = (number - pick(last - blocks))[..., None] * BLOCK + jnp.arange(BLOCK)
    valid = (rank < pick(counts)[..., None]) & (block_slots < num_slots)[..., None]
    place = jnp.clip(pick(first)[..., None] + rank, 0, num_pixels - 1)
    source = jnp.take_along_axis(order, place.reshape(batch, -1), axis=1).reshape(place.shape)
    return Blocks(source, valid, block_slots, last[:, -1].max())


def match_locally(current, previous, labels, num_slots, windows, dtype=jnp.float32):
    """Squared distance of each cell to the nearest cell of each slot in windows around it.

    All offsets of the largest window are walked once, on CPUs row by row. The minimum of a window
    is that of the next smaller one and of the cells around it.

    Args:
      current, previous: [B, h, w, C].
      labels: i32[B, h, w], slots of the previous frame; other values belong to no slot.
      num_slots: S.
      windows: radii W in cells, in the order of the result.
      dtype: of the products; norms and sums are float32.

    Returns:
      f32[B, W, S, h, w]; FAR where a window has no cell of the slot.
    """
    current, previous = jnp.asarray(current, dtype), jnp.asarray(previous, dtype)
    radius = max(windows)
    sides = (radius, radius)
    previous = jnp.pad(previous, ((0, 0), sides, sides, (0, 0)))
    labels = jnp.pad(labels, ((0, 0), sides, sides), constant_values=-1)
    return _nearest_around(current, previous, labels, num_slots, tuple(windows))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _nearest_around(current, previous, labels, num_slots, windows):
    return _walk_rows(current, previous, labels, num_slots, windows, indexed=False)[0]


def _around_forward(current, previous, labels, num_slots, windows):
    distances, index = _walk_rows(current, previous, labels, num_slots, windows, indexed=True)
    return distances, (current, previous, index)


def _around_backward(num_slots, windows, residuals, cotangent):
    current, previous, index = residuals
    number = 2 * max(windows) + 1
    pull = functools.partial(_pull_rows, number=number)
    arrays = (current.astype(jnp.float32), previous.astype(jnp.float32), index, cotangent)
    to_current, to_previous = _by_groups(pull, number, *arrays)
    no_labels = np.zeros(previous.shape[:3], jax.dtypes.float0)
    return to_current.astype(current.dtype), to_previous.astype(previous.dtype), no_labels


_nearest_around.defvjp(_around_forward, _around_backward)


def _by_groups(walk, number, current, previous, *rest):
    """`walk` over `number` row offsets: on CPUs one by one, elsewhere as many at once as fit."""
    batch, height, _, channels = current.shape
    fit = CHUNK_VALUES // (batch * height * previous.shape[2] * channels)
    most = max(n for n in range(1, number + 1) if number % n == 0 and n <= max(fit, 1))
    in_turn, at_once = functools.partial(walk, group=1), functools.partial(walk, group=most)
    return switch.on_cpu('tiles', in_turn, at_once, current, previous, *rest)


def _pull_rows(current, previous, index, cotangent, *, number, group):
    """Gradients of both maps, by groups of row offsets."""
    height, places = current.shape[1], jnp.arange(number)
    index, cotangent = jnp.moveaxis(index, (1, 2), (0, 1)), jnp.moveaxis(cotangent, (1, 2), (0, 1))
    distances = functools.partial(_distances_to_rows, number=group)

    def add_rows(step, gradients):
        to_current, to_previous = gradients
        first = step * group
        rows = (first + jnp.arange(group))[:, None, None, None, None]
        here = index[:, :, None, ..., None] == rows * number + places  # [W, S, R, B, h, w, 2r+1]
        weight = jnp.where(here, cotangent[:, :, None, ..., None], 0.0).sum(axis=(0, 1))
        slab = _rows_of(previous, first, group, height)
        more, slab = jax.vjp(distances, current, slab)[1](weight)
        slab += _rows_of(to_previous, first, group, height)
        to_previous = lax.dynamic_update_slice_in_dim(to_previous, slab, first, axis=1)
        return to_current + more, to_previous

    zeros = (jnp.zeros_like(current), jnp.zeros_like(previous))
    return lax.fori_loop(0, number // group, add_rows, zeros)


def _walk_rows(current, previous, labels, num_slots, windows, indexed):
    """Minima over the windows, f32[B, W, S, h, w], and their offsets i32[...] or None."""
    number = 2 * max(windows) + 1
    settings = dict(num_slots=num_slots, windows=windows, indexed=indexed)
    walk = functools.partial(_walk_groups, number=number, **settings)
    lowest, index = _by_groups(walk, number, current, previous, labels)
    order = functools.partial(jnp.moveaxis, source=2, destination=0)
    return order(lowest), order(index) if indexed else None


def _walk_groups(current, previous, labels, *, number, group, num_slots, windows, indexed):
    """`_walk_rows` by groups of row offsets, f32[W, S, B, h, w]."""
    batch, height, width, _ = current.shape

    def see(rows):  # what each cell sees at all column offsets: [B, h, w + 2r] -> [..., w, 2r + 1]
        return _band(jnp.broadcast_to(rows[:, :, None], (batch, height, width, rows.shape[2])))

    def add_rows(step, state):
        first = step * group
        distances = _distances_to_rows(current, _rows_of(previous, first, group, height), group)
        marks = _rows_of(labels, first, group, height)
        bands = _stacked(see, marks, group, height)
        away = jnp.abs(first + jnp.arange(group) - number // 2)
        found = []
        for window, (low, column) in _nearest_columns(distances, bands, num_slots, windows):
            low = jnp.where((away <= window)[:, None, None, None], low, FAR)  # [S, R, B, h, w]
            row = jnp.argmin(low, axis=1, keepdims=True) if group > 1 else jnp.zeros((1,) * 5, int)
            column = jnp.take_along_axis(column, row, axis=1) if group > 1 else column
            found.append((low.min(axis=1), ((first + row) * number + column)[:, 0]))
        low, at = (jnp.stack(parts) for parts in zip(*found, strict=True))
        lowest, index = state
        if indexed:
            index = jnp.where(low < lowest, at.astype(jnp.int32), index)
        return jnp.minimum(low, lowest), index

    lowest = jnp.full((len(windows), num_slots, batch, height, width), FAR, jnp.float32)
    index = jnp.full(lowest.shape, -1, jnp.int32) if indexed else None
    return lax.fori_loop(0, number // group, add_rows, (lowest, index))


def _nearest_columns(distances, bands, num_slots, windows):
    """Minima over the column offsets of each window, which hold those of the smaller ones.

    Distances f32[R, B, h, w, 2r+1], and slots of the cells i32 -> list of (window, (minima, column
    offsets)), each [S, R, B, h, w], in the order of `windows`.
    """
    radius = distances.shape[-1] // 2
    slots = jnp.arange(num_slots)[:, None, None, None, None]
    low = jnp.full((num_slots, *distances.shape[:-1]), FAR, jnp.float32)
    column, kept = jnp.zeros(low.shape, jnp.int32), {}
    for reach in range(max(windows) + 1):
        for at in {radius - reach, radius + reach}:
            here = jnp.where(bands[..., at] == slots, distances[..., at], FAR)
            column = jnp.where(here < low, at, column)
            low = jnp.minimum(here, low)
        kept[reach] = low, column
    return [(window, kept[window]) for window in windows]


def _rows_of(x, first, group, height):
    """The rows that `height` rows see at `group` row offsets from the `first` on."""
    return lax.dynamic_slice_in_dim(x, first, group + height - 1, axis=1)


def _stacked(function, slab, number, height):
    """`function` of the rows seen at each of the row offsets, results [R, ...]."""
    return jax.vmap(function)(jnp.stack([slab[:, i : i + height] for i in range(number)]))


def _distances_to_rows(current, slab, number):
    """Squared distances of each cell to the cells at some row offsets and all column offsets.

    Args:
      current: [B, h, w, C].
      slab: [B, h + R - 1, w + 2r, C], of the previous frame.
      number: R.

    Returns:
      f32[R, B, h, w, 2r + 1].
    """

    def distances(rows):
        products = _products('byxc,byzc->byxz', current, rows)
        return _band(_norms(current)[..., None] + _norms(rows)[:, :, None] - 2.0 * products)

    return _stacked(distances, slab, number, current.shape[1])


def _band(matrix):
    """Band above the diagonal: [..., w, w + 2r] -> [..., w, 2r + 1], out[i, d] = in[i, i + d].

    Rows that are one longer than those of the matrix shift by one from row to row.
    """
    *lead, width, length = matrix.shape
    flat = matrix.reshape(*lead, width * length)
    flat = jnp.pad(flat, [(0, 0)] * len(lead) + [(0, width)])
    return flat.reshape(*lead, width, length + 1)[..., : length - width + 1]


def _norms(x):
    return jnp.square(x.astype(jnp.float32)).sum(axis=-1)


def _products(equation, x, y):
    # Full precision in float32: with bfloat16 or TF32 products near pixels change their order.
    precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(equation, x, y, precision=precision, preferred_element_type=jnp.float32)
