"""Global and local matching against loops over pixels, with their gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.ops import matching
from vos_jax.ops.cpu import switch

NONE = 9  # a label of no slot


def by_loops(query, references, labels, num_slots):
    """f64[S, Q]: for each query pixel and slot the least squared distance."""
    result = np.full((num_slots, len(query)), matching.FAR)
    for slot in range(num_slots):
        for q, pixel in enumerate(query):
            for reference, label in zip(references, labels, strict=True):
                if label == slot:
                    distance = np.square(pixel - reference).sum()
                    result[slot, q] = min(result[slot, q], distance)
    return result


def around_by_loops(current, previous, labels, num_slots, windows):
    """f64[W, S, h, w]: the same within windows around each cell."""
    height, width, _ = current.shape
    result = np.full((len(windows), num_slots, height, width), matching.FAR)
    for place, slot, y, x in np.ndindex(*result.shape):
        radius = windows[place]
        for v in range(max(y - radius, 0), min(y + radius + 1, height)):
            for u in range(max(x - radius, 0), min(x + radius + 1, width)):
                if labels[v, u] == slot:
                    distance = np.square(current[y, x] - previous[v, u]).sum()
                    result[place, slot, y, x] = min(result[place, slot, y, x], distance)
    return result


@pytest.fixture
def pixels(rng):
    """query [2, 40, 5], references [2, 700, 5] (three blocks), labels [2, 700]; slot 2 is empty."""
    query = rng.normal(size=(2, 40, 5)).astype(np.float32)
    references = rng.normal(size=(2, 700, 5)).astype(np.float32)
    labels = rng.choice([0, 1, 3, NONE], size=(2, 700), p=[0.6, 0.2, 0.1, 0.1])
    return query, references, labels.astype(np.int32)


@pytest.fixture(params=['one tile', 'three tiles', 'one chunk', 'chunks of one block'])
def tile(request, monkeypatch):
    """How the queries of `pixels` are walked: on CPUs at once, and in three tiles of which the last
    is not full; elsewhere in one chunk of blocks, and in chunks of a ladder of numbers."""
    if 'tile' in request.param:
        monkeypatch.setattr(matching, 'TILE', 2048 if request.param == 'one tile' else 16)
        yield
        return
    values = 2**26 if request.param == 'one chunk' else 1
    monkeypatch.setattr(matching, 'CHUNK_VALUES', values)
    with switch.using(()):
        yield


@pytest.fixture(params=['on CPUs', 'all rows at once', 'three at once'])
def group(request, monkeypatch):
    """How the rows of windows of radius 4 are walked."""
    if request.param == 'on CPUs':
        yield
        return
    values = 2**26 if request.param == 'all rows at once' else 4 * 2 * 6 * 17 * 4
    monkeypatch.setattr(matching, 'CHUNK_VALUES', values)
    with switch.using(()):
        yield


@pytest.fixture
def grids(rng):
    """current, previous [2, 6, 9, 4], labels [2, 6, 9]."""
    current, previous = rng.normal(size=(2, 2, 6, 9, 4)).astype(np.float32)
    labels = rng.choice([0, 1, NONE], size=(2, 6, 9), p=[0.5, 0.3, 0.2])
    return current, previous, labels.astype(np.int32)


def close_where_near(result, expected):
    """Equal to float32 rounding; where there is no pixel both are FAR or more."""
    result, empty = np.asarray(result), expected >= matching.FAR
    assert (result[empty] >= matching.FAR).all()
    np.testing.assert_allclose(result[~empty], expected[~empty], atol=1e-4)


def test_one_kernel_matches_globally_as_plain_operations_do(pixels, rng):
    query, references, labels = pixels
    weights = rng.normal(size=(2, 4, 40)).astype(np.float32)
    weights[:, 2] = 0.0  # an empty slot

    def loss(query, references, fused):
        found = matching.match_globally(query, references, labels, 4, fused=fused)
        return (found * weights).sum(), found

    run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    with switch.using(()):
        one, plain = run(query, references, True), run(query, references, False)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-3), one, plain
        )


@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_kernel_is_made_for_accelerators_and_writes_no_distances(platform, dtype):
    shape = jax.ShapeDtypeStruct((1, 1000, 100), dtype)
    labels = jax.ShapeDtypeStruct((1, 1000), jnp.int32)
    match = jax.jit(
        functools.partial(matching.match_globally, num_slots=2, dtype=dtype, fused=True)
    )
    traced = match.trace(shape, shape, labels)
    try:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    except RuntimeError as error:
        if 'No supported GPU devices' not in str(error):
            raise
        pytest.skip('Pallas of this jax asks the GPU itself')
    assert {'cuda': 'triton', 'tpu': 'tpu_custom_call'}[platform] in text
    assert 'stablehlo.dot_general' not in text


@pytest.mark.usefixtures('tile')
def test_global_matching_equals_the_loop(pixels):
    query, references, labels = pixels
    result = jax.jit(functools.partial(matching.match_globally, num_slots=4))(*pixels)
    for b in range(2):
        close_where_near(result[b], by_loops(query[b], references[b], labels[b], 4))


@pytest.mark.usefixtures('tile')
def test_videos_side_by_side_are_matched_as_one_by_one(pixels):
    match = functools.partial(matching.match_globally, num_slots=4)
    several = jax.jit(jax.vmap(match))(*(x[:, None] for x in pixels))
    np.testing.assert_allclose(several[:, 0], jax.jit(match)(*pixels), atol=1e-4)


def test_programs_for_accelerators_match_globally_without_asking_the_host(pixels):
    """One choice of the amount of work; then loops of fixed lengths."""
    match = jax.jit(functools.partial(matching.match_globally, num_slots=4))

    def loops_of_unknown_length(platform):
        text = match.trace(*pixels).lower(lowering_platforms=(platform,)).as_text()
        assert 'stablehlo.while' in text
        return re.findall(r'compare +LT, %iterArg\w*, %iterArg\w*', text)

    assert loops_of_unknown_length('cpu')
    assert not loops_of_unknown_length('cuda')
    assert not loops_of_unknown_length('tpu')


def test_global_matching_without_any_reference_pixel_is_far(pixels):
    query, references, labels = pixels
    match = jax.jit(matching.match_globally, static_argnums=3)
    result = match(query, references, np.full_like(labels, NONE), 3)
    assert (matching.proxy(result, 0.7) == 1.0).all()


def test_global_matching_of_a_pixel_with_itself_is_zero(pixels):
    references = pixels[1]
    labels = np.zeros(references.shape[:2], np.int32)
    result = matching.match_globally(references[:, :50], references, labels, 1)
    np.testing.assert_allclose(result, 0.0, atol=1e-5)


@pytest.mark.usefixtures('group')
def test_local_matching_equals_the_loop(grids):
    current, previous, labels = grids
    windows = (4, 1, 2)
    match = jax.jit(matching.match_locally, static_argnums=(3, 4))
    result = match(current, previous, labels, 3, windows)
    for b in range(2):
        expected = around_by_loops(current[b], previous[b], labels[b], 3, windows)
        close_where_near(result[b], expected)


def test_a_window_as_large_as_the_map_is_global_matching(grids):
    current, previous, labels = grids
    local = matching.match_locally(current, previous, labels, 2, (9,))
    flat = [x.reshape(2, 54, 4) for x in (current, previous)]
    whole = matching.match_globally(*flat, labels.reshape(2, 54), 2)
    np.testing.assert_allclose(local[:, 0].reshape(2, 2, 54), whole, atol=1e-4)


@pytest.mark.usefixtures('tile')
def test_gradient_of_global_matching_goes_to_the_nearest_pixels(pixels, rng):
    """The gradient of the loss through all distances at once, by automatic differentiation."""
    query, references, labels = pixels
    weights = rng.normal(size=(2, 4, 40)).astype(np.float32)
    weights[:, 2] = 0.0  # empty slot: its distance is a constant

    def dense(query, references):
        distances = jnp.square(query[:, :, None] - references[:, None]).sum(axis=-1)
        is_slot = labels[:, None] == np.arange(4)[:, None]  # [B, S, P]
        return jnp.where(is_slot[:, :, None], distances[:, None], matching.FAR).min(axis=-1)

    def loss(match, query, references):
        return (match(query, references) * weights).sum()

    blocked = lambda q, r: matching.match_globally(q, r, labels, 4)  # noqa: E731
    found = jax.jit(jax.grad(functools.partial(loss, blocked), (0, 1)))(query, references)
    expected = jax.jit(jax.grad(functools.partial(loss, dense), (0, 1)))(query, references)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.usefixtures('group')
def test_gradient_of_local_matching_is_that_of_the_chosen_offsets(grids, rng):
    current, previous, labels = grids
    windows = (4, 1)
    weights = rng.normal(size=(2, 2, 2, 6, 9)).astype(np.float32)

    def dense(current, previous):
        distances = jnp.square(current[:, :, :, None, None] - previous[:, None, None]).sum(axis=-1)
        rows, columns = np.arange(6), np.arange(9)
        far_rows = abs(rows[:, None] - rows)[:, None, :, None]
        far_columns = abs(columns[:, None] - columns)[None, :, None]
        reach = jnp.maximum(far_rows, far_columns)  # [h, w, h, w]
        near = reach <= np.array(windows)[:, None, None, None, None]
        is_slot = labels[:, None] == np.arange(2)[:, None, None]  # [B, S, h, w]
        seen = near[None, :, None] & is_slot[:, None, :, None, None]
        return jnp.where(seen, distances[:, None, None], matching.FAR).min(axis=(-2, -1))

    def loss(match, current, previous):
        return (match(current, previous) * weights).sum()

    walked = lambda c, p: matching.match_locally(c, p, labels, 2, windows)  # noqa: E731
    found = jax.jit(jax.grad(functools.partial(loss, walked), (0, 1)))(current, previous)
    expected = jax.jit(jax.grad(functools.partial(loss, dense), (0, 1)))(current, previous)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize('kind', ['global', 'local'])
def test_gradients_are_the_slopes_of_the_loops(pixels, grids, rng, kind):
    """Central differences in float64: an independent check of the gradients."""
    first, second, labels = pixels if kind == 'global' else grids
    first, second, labels = first[:1], second[:1], labels[:1]
    if kind == 'global':
        match = lambda x: matching.match_globally(x, second, labels, 2)  # noqa: E731
        loops = lambda x: by_loops(x, second[0], labels[0], 2)  # noqa: E731
    else:
        match = lambda x: matching.match_locally(x, second, labels, 2, (2, 1))  # noqa: E731
        loops = lambda x: around_by_loops(x, second[0], labels[0], 2, (2, 1))  # noqa: E731
    direction = rng.normal(size=first.shape)
    gradient = jax.jit(jax.grad(lambda x: jnp.tanh(0.1 * match(x)).sum()))(first)
    step = 1e-6 * direction[0]
    after, before = (np.tanh(0.1 * loops(first[0] + s)).sum() for s in (step, -step))
    np.testing.assert_allclose((gradient * direction).sum(), (after - before) / 2e-6, rtol=1e-4)


def test_half_precision_keeps_distances_within_its_rounding(pixels, grids):
    close = functools.partial(np.testing.assert_allclose, rtol=0.05, atol=0.05)
    close(
        matching.match_globally(*pixels, 4, jnp.bfloat16)[:, :2],
        matching.match_globally(*pixels, 4)[:, :2],
    )
    close(
        matching.match_locally(*grids, 2, (3,), jnp.bfloat16),
        matching.match_locally(*grids, 2, (3,)),
    )


def test_background_is_the_least_of_the_other_slots_in_use():
    maps = np.array([[[0.1, 0.9], [0.5, 0.2], [0.3, 0.4], [-1.0, -1.0]]], np.float32)
    used = np.array([[True, True, True, False]])
    result = matching.others(maps, used)
    np.testing.assert_array_equal(result[0, :3], maps[0][[[2, 1], [0, 2], [0, 1]], [0, 1]])


def test_the_only_slot_in_use_is_its_own_background():
    maps = np.array([[[0.1, 0.9], [0.5, 0.2]]], np.float32)
    result = matching.others(maps, np.array([[True, False]]))
    np.testing.assert_array_equal(result[0, 0], maps[0, 0])


def test_the_proxy_of_a_distance_is_a_shifted_sigmoid():
    distance, bias = np.float32(1.5), np.float32(-0.3)
    expected = 1.0 - 2.0 / (1.0 + np.exp(distance + bias))
    np.testing.assert_allclose(matching.proxy(distance, bias), expected, rtol=1e-6)


def test_matching_never_holds_all_distances(rng):
    """20 times the pixels: the plan's memory grows as the pixels, not as their square."""
    match = jax.jit(jax.grad(lambda q, r, m: matching.match_globally(q, r, m, 4).sum(), (0, 1)))

    def planned(pixels):
        shape = jax.ShapeDtypeStruct((1, pixels, 8), jnp.float32)
        labels = jax.ShapeDtypeStruct((1, pixels), jnp.int32)
        return match.lower(shape, shape, labels).compile().memory_analysis().temp_size_in_bytes

    assert planned(20000) < 30 * planned(1000)
