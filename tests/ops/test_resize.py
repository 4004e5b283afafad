import jax
import numpy as np
import pytest

from vos_jax.ops import resize

upsample = jax.jit(resize.upsample, static_argnums=1)
cell_means = jax.jit(resize.cell_means, static_argnums=1)


@pytest.mark.parametrize('factor', [1, 2, 3, 4, 16])
def test_upsampling_is_bilinear_with_half_pixel_centres(rng, factor):
    x = rng.standard_normal((2, 3, 5, 2), np.float32)
    shape = (2, 3 * factor, 5 * factor, 2)
    expected = jax.image.resize(x, shape, 'bilinear', antialias=False)
    np.testing.assert_allclose(upsample(x, factor), expected, atol=1e-6)


@pytest.mark.parametrize('method', ['linear', 'cubic'])
@pytest.mark.parametrize('size', [(38, 54), (25, 31), (19, 40), (15, 20)])
def test_neighbours_are_weighted_as_by_the_library(rng, size, method):
    x = rng.standard_normal((2, 19, 27), np.float32)
    found = resize.interpolate(x, size, (1, 2), getattr(resize, method))
    expected = jax.image.resize(x, (2, *size), method, antialias=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_row_worked_out_by_hand():
    x = np.array([0.0, 4.0], np.float32).reshape(1, 1, 2, 1)
    doubled = np.asarray(upsample(x, 2))[0, 0, :, 0]
    assert doubled.tolist() == [0, 1, 3, 4]


def test_an_enlarged_cell_stays_over_its_pixels():
    """The mean over each cell's pixels is the cell's value where its neighbours balance."""
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1)
    back = np.asarray(upsample(x, 4)).reshape(1, 4, 5, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(back[0, 1:4], [1, 2, 3], atol=1e-6)


def test_cell_means_worked_out_by_hand():
    x = np.array([[1, 1, 0, 0], [1, 0, 0, 2]], np.float32).reshape(1, 1, 2, 4)
    assert np.asarray(cell_means(x, 2)).tolist() == [[[[0.75, 0.5]]]]


def test_cell_means_keep_the_axes_apart(rng):
    x = rng.standard_normal((2, 3, 4, 6), np.float32)
    means = np.asarray(cell_means(x, 2))
    assert means.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(means[1, 2, 0, 2], x[1, 2, 0:2, 4:6].mean(), rtol=1e-6)
