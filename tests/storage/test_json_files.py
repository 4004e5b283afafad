"""JSON files: every damage is one line."""

import json

import pytest

from vos_jax.errors import InputError
from vos_jax.storage import checksum
from vos_jax.storage.json_files import check_form, parse_json, read_json, write_json

FORM = {
    'name': str,
    'frames': [str],
    'size': (int, int),
    'rate?': float | None,
    'scores': {str: float},
}
WHOLE = {'name': 'dog', 'frames': ['00000'], 'size': [480, 854], 'scores': {'1': 1}}


def test_values_come_back(tmp_path):
    write_json(tmp_path / 'a.json', WHOLE)
    assert read_json(tmp_path / 'a.json', FORM) == WHOLE


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf{}')
    assert read_json(tmp_path / 'a.json') == {}


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'{',
        b'\xff\xfe{\0}\0',
        '{"a": "é"}'.encode('latin-1'),
        b'[' * 100_000,
        b'{"a":' * 100_000,
        b'1' * 10_000,
        b'\0' * 100,
    ],
    ids=range(8),
)
def test_what_is_no_json_is_one_line(tmp_path, content):
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(InputError, match=r'a\.json: not a whole JSON file .*; copy it again$'):
        read_json(tmp_path / 'a.json')


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r'a\.json: no such file; score first$'):
        read_json(tmp_path / 'a.json', remedy='score first')
    (tmp_path / 'a.json').mkdir()
    with pytest.raises(InputError, match=r'a\.json: a folder'):
        read_json(tmp_path / 'a.json')


def test_a_link_to_itself_cannot_be_read(tmp_path):
    (tmp_path / 'a.json').symlink_to('a.json')
    with pytest.raises(InputError, match=r'a\.json: cannot be read \(Too many levels'):
        read_json(tmp_path / 'a.json')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'name': 3}, "'name' is 3, needed: str"),
        ({'frames': 'x'}, "'frames' is 'x', needed: a list"),
        ({'frames': ['0', None]}, "'frames.1' is None, needed: str"),
        ({'size': [1]}, r"'size' is \[1\], needed: a list of 2"),
        ({'size': [True, 1]}, "'size.0' is True, needed: int"),
        ({'size': [1.5, 1]}, "'size.0' is 1.5, needed: int"),
        ({'rate': 'x'}, r"'rate' is 'x', needed: float \| None"),
        ({'scores': []}, r"'scores' is \[\], needed: names with values"),
        ({'scores': {'1': 'x'}}, "'scores.1' is 'x', needed: float"),
    ],
)
def test_the_value_of_another_form_is_named(change, words):
    with pytest.raises(InputError, match=f'^a.json: {words}; copy it again$'):
        check_form(WHOLE | change, FORM, 'a.json')


def test_a_missing_key_is_named_and_further_keys_are_free():
    with pytest.raises(InputError, match="'frames' is missing"):
        check_form({'name': 'dog', 'more': 1}, FORM, 'a.json')
    check_form(WHOLE | {'more': 1, 'rate': 2}, FORM, 'a.json')


@pytest.mark.parametrize('values', [None, 3, [], 'text'])
def test_another_value_than_a_dict_is_refused(values):
    with pytest.raises(InputError, match=r'holds .*, needed: names with values'):
        parse_json(json.dumps(values).encode(), 'a.json', FORM)


def test_a_function_may_check(tmp_path):
    write_json(tmp_path / 'a.json', [])
    with pytest.raises(InputError, match=r'a\.json: .*list index out of range'):
        read_json(tmp_path / 'a.json', lambda values: values[0])


def test_a_sealed_file_with_another_value_is_refused(tmp_path):
    path = tmp_path / 'a.json'
    write_json(path, checksum.seal({'scores': [0.25, None]}))
    assert read_json(path)['scores'] == [0.25, None]
    path.write_text(path.read_text().replace('0.25', '0.75'))
    with pytest.raises(InputError, match=r'a\.json: .*it differs from its checksum'):
        read_json(path)
