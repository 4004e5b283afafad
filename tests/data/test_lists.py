"""Lists of sequences and meta.json, as people have them."""

import json

import pytest

from vos_jax.data import lists
from vos_jax.errors import InputError


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_lists_in_any_unicode(encoding, end):
    data = end.join(['bear', ' x/a ', '', 'dog walk', 'größe', './b/', '\x1a']).encode(encoding)
    assert lists.parse_sequences(data, 'list') == ['bear', 'x/a', 'dog walk', 'größe', 'b']


@pytest.mark.parametrize(
    ('data', 'told'),
    [
        ('bär\n'.encode('latin-1'), 'no UTF-8 text in line 1, perhaps Latin-1; save it as UTF-8'),
        ('ok\nbär'.encode('latin-1'), 'no UTF-8 text in line 2'),
        ('bear\n'.encode('utf-16-le'), 'perhaps UTF-16 without a byte order mark'),
        (b'\xff\xfeb', 'no UTF-16 text'),
        (b'  \n\n', 'empty list'),
        (b'', 'empty list'),
        (b'a\nb\n./a', "'a' is listed twice, as names 1 and 3"),
        ('\u00e9\ne\u0301'.encode(), 'is listed twice, as names 1 and 2'),
        (b'../a', 'is no name of a sequence'),
        (b'/etc', 'is no name of a sequence'),
        (b'x/../../a', 'is no name of a sequence'),
        (b'a' * 300, 'a name of 300 bytes'),
    ],
)
def test_lists_that_cannot_be_meant_are_one_line(data, told):
    with pytest.raises(InputError, match=f'^my list: .*{told}'):
        lists.parse_sequences(data, 'my list')


def test_pairs_may_have_spaces_and_folders():
    rows = [
        f'/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png'
        for name in ('x/a', 'dog walk')
        for t in range(2)
    ]
    assert lists.parse_sequences('\n'.join(rows).encode(), '') == ['x/a', 'dog walk']
    assert lists.parse_sequences(b'/JPEGImages/a/0.jpg /Annotations/a/0.png', '') == ['a']
    assert lists.parse_sequences(b'x\\a\\0.jpg x\\a\\0.png\ny/a/0.jpg y/a/0.png', '') == [
        'x/a',
        'y/a',
    ]


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('a/0.jpg b/0.png', 'a/0.jpg beside b/0.png, in folders of other names'),
        ('a/0.jpg a/1.png', 'in folders of other names'),
        ('JPEGImages/x/a/0.jpg x/a/0.png', 'in folders of other names'),
        (
            'JPEGImages/x/a/0.jpg Annotations/x/a/0.png\n'
            'JPEGImages/y/a/0.jpg Annotations/y/a/0.png',
            'are below two folders of frames',
        ),
        ('0.jpg 0.png', 'is no name of a sequence'),
    ],
)
def test_pairs_that_name_no_folder_of_frames_are_one_line(text, told):
    with pytest.raises(InputError, match=f'^my list: .*{told}'):
        lists.parse_sequences(text.encode(), 'my list')


def meta(objects, video='v'):
    return json.dumps({'videos': {video: {'objects': objects}}}).encode()


def test_ids_and_frames_may_be_text_or_numbers():
    expected = {'v': {1: lists.Listed((0, 5), 'dog'), 2: lists.Listed(('00005',))}}
    fields = {'frames': [0, 5], 'category': 'dog'}
    assert lists.parse_meta(meta({'2': {'frames': ['00005']}, '1': fields}), '') == expected
    listed = [{'id': 2, 'frames': ['00005']}, {'id': '1'} | fields]
    assert lists.parse_meta(b'\xef\xbb\xbf' + meta(listed), '') == expected
    assert lists.match_frames((0, 5, '10', '00015.jpg'), ['00000', '00005', '00010', '00015']) == [
        '00000',
        '00005',
        '00010',
        '00015',
    ]
    assert lists.match_frames((7, '7'), ['00000']) == ['00007', '7']


@pytest.mark.parametrize(
    ('data', 'told'),
    [
        (meta({'0': {'frames': ['1']}}), "id '0'; ids are 1 to 254"),
        (meta({'300': {'frames': ['1']}}), "id '300'"),
        (meta({'x': {'frames': ['1']}}), "id 'x'"),
        (meta({'²': {'frames': ['1']}}), "id '²'"),
        (meta({'1': {'frames': ['1']}, '01': {'frames': ['1']}}), 'object 1 twice'),
        (meta({'1': {'frames': []}}), 'an object without frames'),
        (meta({}), 'no object'),
        (meta({'1': {'frames': 5}}), 'not the form'),
        (meta({'1': {'frames': [True]}}), 'not the form'),
        (meta({'1': {'frames': ['../1']}}), 'not the form'),
        (meta({'1': {}}), 'not the form'),
        (meta([{'frames': ['1']}]), 'not the form'),
        (meta({'1': {'frames': ['1']}}, video='../v'), 'is no name of a sequence'),
        (meta({'1': {'frames': ['1']}}, video='\ud800'), 'is no text'),
        (b'{"videos": {"v": {"objects": 1}, "v": {}}}', "'v' is there twice"),
        (b'[' * 100_000, 'not the form'),
        (b'{', 'not the form'),
        (b'{}', 'not the form'),
        (b'[]', 'not the form'),
        (b'{"videos": 3}', 'not the form'),
        ('{"videos": {"bär": {}}}'.encode('latin-1'), 'no UTF-8 text'),
    ],
)
def test_a_meta_file_that_cannot_be_meant_is_one_line(data, told):
    with pytest.raises(InputError, match=r'^meta\.json: ') as caught:
        lists.parse_meta(data, 'meta.json')
    assert told in str(caught.value)
