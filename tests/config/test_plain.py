import pytest
from hypothesis import given
from hypothesis import strategies as st

from vos_jax.config import plain
from vos_jax.config.read import read
from vos_jax.config.schema import DataSpec, Jitter, Source

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
KEYS = st.text('abc_', min_size=1, max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_json_gives_the_same_values_and_types_back(config):
    back = plain.loads(plain.dumps(config))
    assert repr(back) == repr(config)


def test_a_value_that_is_not_plain_is_refused_by_key():
    with pytest.raises(TypeError, match=r"'model\.act' is a builtin_function_or_method"):
        plain.dumps({'model': {'act': len}})


def test_differences_name_changed_new_and_missing_keys():
    old = {'model': {'width': 48, 'norm': 'gn'}, 'seed': 0}
    new = {'model': {'width': 64, 'norm': 'gn'}, 'steps': (1, 2)}
    assert plain.differences(old, new) == [
        ('model.width', 48, 64),
        ('seed', 0, plain.ABSENT),
        ('steps', plain.ABSENT, (1, 2)),
    ]


def test_an_empty_group_is_no_difference():
    assert plain.differences({'data': {}}, {}) == []


def test_a_spec_reads_the_same_from_its_plain_values():
    data = DataSpec((Source('a', 'one', jitter=Jitter(scale=0.5)), Source('b', 'two')), 4, (32, 48))
    values = plain.to_plain(data)
    assert values['sources']['one']['jitter']['scale'] == 0.5
    assert read(DataSpec, plain.loads(plain.dumps(data)), 'data') == data


@pytest.mark.parametrize('names', [('', ''), ('a', 'a'), ('a', '')])
def test_groups_that_names_do_not_tell_apart_stay_a_list(names):
    spec = DataSpec(tuple(Source('x', name) for name in names), batch_size=1, crop=(32, 48))
    assert isinstance(plain.to_plain(spec)['sources'], tuple)
    assert read(DataSpec, plain.to_plain(spec)) == spec
