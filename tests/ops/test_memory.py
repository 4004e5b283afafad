import jax
import numpy as np
import pytest

from tests.models.tiny import softmax
from vos_jax.ops import memory
from vos_jax.ops.tiling import by_tiles

affinity = jax.jit(memory.affinity)
dot_similarity = jax.jit(memory.dot_similarity)
l2_similarity = jax.jit(memory.l2_similarity)
read_memory = jax.jit(memory.read_memory)


@pytest.fixture
def keys(rng):
    """[B, T, P, Ck]"""
    return rng.standard_normal((2, 3, 5, 4), np.float32)


@pytest.fixture
def query(rng):
    """[B, Q, Ck]"""
    return rng.standard_normal((2, 6, 4), np.float32)


@pytest.fixture
def valid():
    """The last memory slot of the second clip is empty, and each frame ends in padding."""
    valid = np.ones((2, 3, 5), bool)
    valid[1, 2] = False
    valid[:, :, 4] = False
    return valid


def test_the_weights_of_a_query_pixel_sum_to_one_over_all_frames(keys, query, valid):
    weights = affinity(dot_similarity(keys, query), valid)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1.0, atol=1e-6)


def test_empty_slots_and_padding_weigh_exactly_nothing(keys, query, valid):
    # Far beyond what any key gives: nothing may shine through the mask.
    similarity = np.where(valid[..., None], dot_similarity(keys, query), 1e6)
    weights = np.asarray(affinity(similarity, valid))
    assert (weights[~valid] == 0).all()
    assert (weights[valid] > 0).all()


def test_masked_pixels_pass_no_gradient(keys, query, valid):
    def read(similarity):
        return (memory.affinity(similarity, valid)[:, 0] ** 2).sum()

    gradient = np.asarray(jax.jit(jax.grad(read))(dot_similarity(keys, query)))
    assert np.isfinite(gradient).all()
    assert (gradient[~valid] == 0).all()
    assert (gradient[valid] != 0).all()


def test_dot_similarity_is_the_scaled_product(keys, query):
    expected = np.einsum('btpc,bqc->btpq', keys.astype(float), query) / 2
    np.testing.assert_allclose(dot_similarity(keys, query, 0.5), expected, atol=1e-6)


def test_l2_weights_are_those_of_the_negative_squared_distance(keys, query, valid):
    differences = keys[:, :, :, None] - query[:, None, None].astype(float)
    distances = np.where(valid[..., None], (differences**2).sum(axis=-1), np.inf)
    expected = softmax(-0.7 * distances, (1, 2))
    weights = affinity(l2_similarity(keys, query, 0.7), valid)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_l2_is_twice_the_dot_product_where_keys_have_one_length(keys, query, valid):
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    by_distance = affinity(l2_similarity(keys, query, 0.5), valid)
    by_product = affinity(dot_similarity(keys, query), valid)
    np.testing.assert_allclose(by_distance, by_product, atol=1e-6)


def test_a_read_worked_out_by_hand():
    # One query pixel; log-weights of 3 : 1 over two pixels in two frames, the third is empty.
    similarity = np.log(np.array([[3.0], [1.0], [5.0]], np.float32)).reshape(1, 3, 1, 1)
    weights = affinity(similarity, np.array([[[True], [True], [False]]]))
    values = np.array([[4.0, 0.0], [8.0, 2.0], [99.0, 99.0]], np.float32).reshape(1, 3, 1, 2)
    np.testing.assert_allclose(read_memory(weights, values), [[[5.0, 0.5]]], rtol=1e-6)


def test_all_slots_are_read_as_each_one_would_be(keys, query, valid, rng):
    weights = affinity(dot_similarity(keys, query), valid)
    values = rng.standard_normal((2, 3, 5, 2, 7), np.float32)
    together = memory.read_memory_of_objects(weights, values)
    assert together.shape == (2, 2, 6, 7)
    for slot in range(2):
        alone = read_memory(weights, values[:, :, :, slot])
        np.testing.assert_allclose(together[:, slot], alone, atol=1e-6)


def test_a_read_keeps_the_dtype_of_the_values_and_sums_in_float32():
    # 4096 values of 1 and weights of 1/4096: a sum in bfloat16 would stop at 256 / 4096.
    weights = np.full((1, 1, 4096, 1), 1 / 4096, np.float32)
    values = np.ones((1, 1, 4096, 1), jax.numpy.bfloat16)
    read = read_memory(weights, values)
    assert read.dtype == jax.numpy.bfloat16
    assert read.item() == 1.0


def test_distances_between_the_cells_of_a_grid():
    # 0 1
    # 2 3
    # 4 5
    expected = [
        [0, 1, 1, 2, 4, 5],
        [1, 0, 2, 1, 5, 4],
        [1, 2, 0, 1, 1, 2],
        [2, 1, 1, 0, 2, 1],
        [4, 5, 1, 2, 0, 1],
        [5, 4, 2, 1, 1, 0],
    ]
    found = memory.squared_distances(3, 2, np.arange(6))
    np.testing.assert_array_equal(found, expected)
    some = memory.squared_distances(3, 2, np.array([5, 0]))
    np.testing.assert_array_equal(some, np.array(expected)[:, [5, 0]])


@pytest.mark.parametrize('size', [4, 3, 1])
def test_a_memory_read_in_tiles_gives_the_same(size, rng):
    query = rng.standard_normal((2, 7, 4)).astype(np.float32)
    keys = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
    values = rng.standard_normal((2, 3, 5, 2, 6)).astype(np.float32)
    bias = rng.standard_normal((5, 7)).astype(np.float32)
    valid = np.ones((2, 3, 5), bool)
    valid[:, 1, 3:] = False

    def read(query, cells):
        at = jax.numpy.minimum(cells, 6)  # the last tile is padded
        similarity = memory.dot_similarity(keys, query) + jax.numpy.asarray(bias)[:, at]
        weights = memory.affinity(similarity, valid)
        return memory.read_memory(weights, values[..., 0, :]), memory.read_memory_of_objects(
            weights, values
        )

    found = jax.jit(lambda q: by_tiles(read, q, size, axis=-2))(query)
    for part, whole in zip(found, read(query, np.arange(7)), strict=True):
        np.testing.assert_allclose(part, whole, atol=1e-6)
