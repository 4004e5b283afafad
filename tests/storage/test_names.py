"""Names of files, and numbers in them."""

import pytest

from vos_jax.errors import InputError
from vos_jax.storage import names


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', 'a\0', 'x' * 300, 'é' * 130, '\ud800'])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InputError, match=r'^train\.txt: .*; give it a shorter, plain name$'):
        names.check_name(name, 'train.txt')


def test_plain_names_pass():
    for name in ('dog', 'x' * 250, '人物', 'a b', '..a'):
        names.check_name(name, 'train.txt')


def test_other_digits_than_ours_are_letters():
    assert sorted(['²', '10', '9'], key=names.natural_key) == ['9', '10', '²']


@pytest.mark.parametrize(
    'text',
    ['', '854', '854x', 'axb', '16x480', '31x480', '²x²', '-40x40', f'{10**8}x{10**8}'],
)
def test_a_wrong_size_is_refused(text):
    with pytest.raises(InputError, match='needed: WIDTHxHEIGHT'):
        names.parse_size(text)
