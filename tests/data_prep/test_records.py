"""Records of prepared sets: tf.train.Example messages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shards import decode_example, encode_example
from vos_jax.data import prepared

pytest.importorskip('tensorflow_datasets', reason='pip install -e .[prepare]')

VALUES = st.lists(st.binary(max_size=300), min_size=1, max_size=3) | st.lists(
    st.integers(0, 2**63 - 1), min_size=1, max_size=3
)


@given(st.dictionaries(st.text(min_size=1, max_size=9), VALUES, max_size=4))
@settings(max_examples=40)
def test_decoding_gives_back_what_was_encoded(features):
    decoded = decode_example(encode_example(features))
    assert decoded == features


def test_bytes_of_a_record_by_hand():
    # Example.features (1) > Features.feature (1) > key (1), value (2) > int64_list (3) > value (1)
    assert encode_example({'a': [5]}) == b'\x0a\x0c\x0a\x0a\x0a\x01a\x12\x05\x1a\x03\x0a\x01\x05'
    assert encode_example({'a': [b'xy']}) == (
        b'\x0a\x0d\x0a\x0b\x0a\x01a\x12\x06\x0a\x04\x0a\x02xy'
    )


def test_the_order_of_names_changes_nothing():
    assert encode_example({'b': [1], 'a': [b'']}) == encode_example({'a': [b''], 'b': [1]})


def test_other_bytes_are_refused():
    record = encode_example({'a': [b'x' * 200]})
    for data in (record[:-1], record[:5], b'\x00' * 20, b'\xff' * 20):
        with pytest.raises(ValueError, match=r'not a tf\.train\.Example'):
            decode_example(data)


def test_parts_are_read_over_block_borders(tmp_path, rng):
    # A file as Riegeli lays it out: 24 bytes of header at the start of each 65536.
    body = rng.bytes(300_000)
    pieces = [body[at : at + 65512] for at in range(0, len(body), 65512)]
    path = tmp_path / 'shard'
    path.write_bytes(b''.join(b'#' * 24 + piece for piece in pieces))
    assert prepared.without_headers(path.read_bytes()) == body
    for start, size in ((0, 10), (65511, 1), (65512, 1), (65500, 30), (5, 299_990), (131_024, 7)):
        assert prepared.read_part(path, start, size) == body[start : start + size]
