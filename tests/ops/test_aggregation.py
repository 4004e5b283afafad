import jax
import numpy as np

from vos_jax.ops import aggregation


@jax.jit
def distribution(log_probabilities, objects):
    return aggregation.probabilities_of(aggregation.aggregate(log_probabilities, objects))


def merged(probabilities, objects):
    """float64: p_0 = prod(1 - p), odds p / (1 - p), normalised over the used slots (RGMP)."""
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    used = objects[:, :, None, None]
    p0 = np.where(used, 1 - p, 1.0).prod(axis=1, keepdims=True)
    p0 = np.clip(p0, 1e-7, 1 - 1e-7)
    odds = np.concatenate([p0 / (1 - p0), np.where(used, p / (1 - p), 0.0)], axis=1)
    return odds / odds.sum(axis=1, keepdims=True)


def aggregated(probabilities, objects=None):
    probabilities = np.asarray(probabilities, np.float32)
    if objects is None:
        objects = np.ones(probabilities.shape[:2], bool)
    with np.errstate(divide='ignore'):
        log_probabilities = np.log(probabilities)
    return np.asarray(distribution(log_probabilities, np.asarray(objects)))


def pixel(*values):
    """f32[1, K, 1, 1]"""
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


def test_two_objects_worked_out_by_hand():
    # p_0 = 0.2 * 0.5 = 1/10; odds 1/9, 4, 1; their sum is 46/9.
    result = aggregated(pixel(0.8, 0.5)).ravel()
    np.testing.assert_allclose(result, [1 / 46, 36 / 46, 9 / 46], rtol=1e-6)


def test_one_object_keeps_its_odds_squared():
    # Background odds (1 - p) / p against p / (1 - p): 1/3 against 3.
    np.testing.assert_allclose(aggregated(pixel(0.75)).ravel(), [0.1, 0.9], rtol=1e-6)


def test_it_is_the_published_formula_in_float64(rng):
    # From far below 1e-7 to within 1e-7 of 1, where 1 - p in float32 would be all rounding.
    logits = rng.uniform(-20, 20, (3, 4, 8, 9))
    probabilities = 1 / (1 + np.exp(-logits))
    objects = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]], bool)
    result = np.asarray(distribution(np.log(probabilities).astype(np.float32), objects))
    np.testing.assert_allclose(result, merged(probabilities, objects), atol=2e-6)


def test_unused_slots_get_exactly_nothing(rng):
    probabilities = rng.uniform(0.01, 0.99, (2, 3, 4, 5))
    objects = np.array([[True, False, True], [False, True, False]])
    result = aggregated(probabilities, objects)
    assert (result[0, 2] == 0).all()
    assert (result[1, [1, 3]] == 0).all()
    np.testing.assert_allclose(result.sum(axis=1), 1.0, atol=1e-6)


def test_unused_slots_change_nothing_for_the_others(rng):
    probabilities = rng.uniform(0.01, 0.99, (1, 3, 4, 5))
    alone = aggregated(probabilities[:, :2])
    beside = aggregated(probabilities, [[True, True, False]])
    np.testing.assert_array_equal(beside[:, :3], alone)


def test_without_objects_all_is_background():
    result = aggregated(pixel(0.9, 0.9), [[False, False]]).ravel()
    np.testing.assert_allclose(result, [1.0, 0.0, 0.0], atol=1e-6)


def test_certain_objects_share_a_pixel():
    np.testing.assert_allclose(aggregated(pixel(1.0, 1.0)).ravel(), [0, 0.5, 0.5], atol=1e-6)


def test_ties_go_to_the_lower_slot():
    probabilities = np.array([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]], np.float32)
    labels = aggregation.labels_of(probabilities.reshape(2, 3, 1, 1))
    assert labels.dtype == np.uint8
    assert labels.ravel().tolist() == [1, 0]


def test_the_gradient_is_finite_at_every_probability():
    def background(log_p):
        logits = aggregation.aggregate(log_p, np.ones((5, 2), bool))
        return jax.nn.log_softmax(logits, axis=1)[:, 0].sum()

    p = np.array([[1e-30, 0.3], [1e-9, 0.3], [0.5, 0.3], [1 - 1e-7, 0.3], [1.0, 1.0]], np.float32)
    gradient = np.asarray(jax.jit(jax.grad(background))(np.log(p)[..., None, None]))
    assert np.isfinite(gradient).all()
    assert (gradient[2] != 0).all()


def test_the_logarithm_of_the_complement_loses_no_digits():
    x = -np.geomspace(1e-7, 80, 200).astype(np.float32)
    exact = x.astype(np.float64)
    expected = np.where(exact > -1, np.log(-np.expm1(exact)), np.log1p(-np.exp(exact)))
    np.testing.assert_allclose(jax.jit(aggregation.log1mexp)(x), expected, rtol=2e-6)


def test_labels_and_masks_give_each_other_back_and_void_belongs_to_no_slot():
    labels = np.array([[[0, 1], [3, 255]]], np.uint8)
    masks = np.asarray(aggregation.one_hot_masks(labels, 3))
    assert masks.tolist() == [[[[0, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [1, 0]]]]
    background = 1 - masks.sum(axis=1, keepdims=True)
    again = aggregation.labels_of(np.concatenate([background, masks], axis=1))
    np.testing.assert_array_equal(again, np.where(labels == 255, 0, labels))
