import jax.numpy as jnp
import numpy as np
import pytest

from vos_jax.ops.grid import Grid


def test_padding_goes_to_the_end_up_to_the_next_multiple():
    x = np.ones((1, 5, 8, 2), np.float32)
    padded = np.asarray(Grid((5, 8), 4).pad(x, (1, 2)))
    assert padded.shape == (1, 8, 8, 2)
    assert (padded[:, :5] == 1).all()
    assert (padded[:, 5:] == 0).all()


def test_centred_padding_is_shared_with_the_larger_half_after():
    padded = np.asarray(Grid((5, 6), 4, centred=True).pad(np.ones((5, 6)), (0, 1)))
    assert padded.shape == (8, 8)
    assert (padded[1:6, 1:7] == 1).all()
    assert padded.sum() == 30


def test_what_fits_is_not_padded():
    x = np.ones((1, 8, 4, 2), np.float32)
    assert Grid((8, 4), 4).pad(x, (1, 2)) is x


@pytest.mark.parametrize(
    ('side', 'expected'),
    [(8, '11'), (9, '110'), (10, '111'), (11, '111'), (1, '1')],  # cells of 4 pixels
)
def test_a_cell_counts_where_its_centre_is_image(side, expected):
    assert ''.join(str(int(cell)) for cell in Grid((side, 4), 4).valid()) == expected
    assert ''.join(str(int(cell)) for cell in Grid((4, side), 4).valid()) == expected


def test_centred_cells_count_by_the_same_rule():
    # Five pixels in cells -1..2 and 3..6, of which the second has its centre, 5, at the border.
    assert Grid((5, 4), 4, centred=True).valid().tolist() == [True, True]
    # Ten in cells -3..4, 5..12: centres 1 and 9.
    assert Grid((10, 8), 8, centred=True).valid().tolist() == [True, True]


@pytest.mark.parametrize('centred', [False, True])
def test_cropping_undoes_padding(rng, centred):
    grid, x = Grid((5, 6), 4, centred), rng.standard_normal((2, 5, 6))
    np.testing.assert_allclose(grid.crop(grid.pad(x, (1, 2))), x, rtol=1e-6)


@pytest.mark.parametrize(('centred', 'first_row'), [(False, 0), (True, 1)])
def test_maps_of_any_stride_come_back_at_the_size_of_the_image(centred, first_row):
    rows = jnp.arange(4.0)[None, None, :, None, None] * jnp.ones((1, 2, 4, 4, 1))
    image = Grid((5, 8), 4, centred).to_image(rows)  # 4 x 4 maps of 8 x 8 padded pixels
    assert image.shape == (1, 2, 5, 8)
    enlarged = np.array([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(image[0, 1, :, 3], enlarged[first_row : first_row + 5], atol=1e-6)
