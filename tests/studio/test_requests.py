"""Requests of any shape, to all routes: answered, or refused in one line."""

import asyncio
import gzip
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.video import samples
from vos_jax.errors import InputError
from vos_jax.studio import app
from vos_jax.studio.library import Library
from vos_jax.studio.worker import Worker

ONE = np.where(samples.first_mask() == 1, 1, 0).astype(np.uint8)
NUM_FRAMES = 3


def no_model():
    raise InputError('no model in this test')


@pytest.fixture(scope='module')
def studio(tmp_path_factory):
    library = Library(tmp_path_factory.mktemp('studio'), 1)
    samples.write_video(library.folder / 'clip.mp4', [samples.draw(n) for n in range(NUM_FRAMES)])
    (library.folder / 'notes.txt').write_text('mine')
    studio = app.Studio(library, Worker(no_model), None)
    yield studio
    studio.close()
    library.close()


@pytest.fixture
def opened(studio):
    reopen(studio)
    studio.project.forget(0)
    return studio


def reopen(studio):
    studio.open(*studio.library.find_video('clip.mp4'))
    assert studio.project.frames.wait_for(NUM_FRAMES - 1)


def ask(studio, method, path, body=b'', query='', **headers):
    """(status, JSON or bytes, headers) of a request, without a server."""
    if isinstance(body, dict):
        body, headers = json.dumps(body).encode(), {'content_type': 'application/json', **headers}
    answers = []
    received = [{'type': 'http.request', 'body': body}, {'type': 'http.disconnect'}]

    async def receive():
        return received.pop(0)

    async def send(message):
        answers.append(message)

    pairs = [(k.replace('_', '-').encode(), v.encode('utf-8')) for k, v in headers.items()]
    scope = {'type': 'http', 'method': method, 'path': path, 'headers': pairs}
    scope |= {'query_string': query.encode(), 'root_path': ''}
    asyncio.run(app.build(studio)(scope, receive, send))
    content = b''.join(answer.get('body', b'') for answer in answers[1:])
    found = {k.decode(): v.decode() for k, v in answers[0]['headers']}
    is_json = 'json' in found.get('content-type', '')
    return answers[0]['status'], json.loads(content) if is_json else content, found


NAMES = ['project', 'video', 'objects', 'id', 'name', 'colour', 'frame', 'backwards', 'size']
NAMES += ['object', 'box', 'scribbles', 'inside', 'points', 'radius', 'uploaded']
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2, -1, 240, 10**400, 1e308, 2**63])
TEXTS = (
    st.text(max_size=20)
    | st.text('aé', min_size=300, max_size=5000)
    | st.sampled_from(
        [
            'clip.mp4',
            'clip',
            '../notes.txt',
            'notes.txt',
            '/etc/passwd',
            '#ff5252',
            '\0',
            '\ud800',
            '.',
        ]
    )
)
OBJECT = st.fixed_dictionaries({'id': NUMBERS, 'name': TEXTS, 'colour': TEXTS})
LINE = st.fixed_dictionaries({'inside': st.booleans(), 'points': st.lists(st.lists(NUMBERS))})
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | OBJECT | LINE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=12,
)
RIGHT = [
    {'frame': 0, 'object': 1, 'box': [8.0, 10.0, 26.0, 30.0]},
    {'objects': [{'id': 1, 'name': 'a', 'colour': '#ff5252'}]},
    {'frame': 0, 'object': 1, 'scribbles': [{'inside': True, 'points': [[10.0, 14.0]]}]},
    {'video': 'clip.mp4'},
    {'project': 'clip'},
]
CHANGED = st.builds(
    lambda values, name, value: {**values, name: value},
    st.sampled_from(RIGHT),
    st.sampled_from(NAMES),
    VALUES,
)
RAW = [b'{', b'[' * 100_000, b'{"a":' * 5000, b'\xff\xfe', b'{"frame": NaN}', b'{"frame": 1e999}']
RAW += [b'9' * 5000, bytes(1 << 21), ONE.tobytes(), b'{"video": "\\ud800"}', b'null']
BODIES = (
    st.one_of(VALUES, CHANGED).map(lambda values: json.dumps(values).encode())
    | st.sampled_from(RAW)
    | st.binary(max_size=60)
)
PARTS = st.sampled_from(['0', '1', '99', '9' * 30, '-1', 'clip.mp4', 'masks.zip', '..'])
PARTS |= st.text(st.characters(exclude_characters='/'), min_size=1, max_size=300)
KINDS = st.sampled_from(['application/json', 'Application/JSON; charset=x', 'text/plain', 'é', ''])
HEADERS = st.fixed_dictionaries(
    {'content_type': KINDS}, optional={'if_match': st.sampled_from(['"0"', '"é"', ''])}
)
ROUTES = [r for r in app.build(None).routes if r.path.startswith('/api/')]
CALLS = [(r.path, m) for r in ROUTES for m in sorted(r.methods)]


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(CALLS),
    PARTS,
    BODIES,
    HEADERS,
    st.sampled_from(['', 'show', 'box=x&frame=1&seen=2']),
)
def test_any_request_is_answered_or_refused_in_one_line(studio, call, part, body, headers, query):
    path, method = call
    path = path.split('{')[0] + (part if '{' in path else '')
    if studio.project is None:
        reopen(studio)
    status, answer, _ = ask(studio, method, path, body, query, **headers)
    assert status < 500, answer
    if status >= 400 and method != 'HEAD':
        assert answer['error']
        assert len(answer['error'].splitlines()) == 1
    assert (studio.library.folder / 'notes.txt').read_text() == 'mine'
    assert (studio.library.folder / 'clip.mp4').is_file()
    assert not list(studio.library.folder.glob('videos/.*'))


def test_all_routes_are_fuzzed():
    assert {method for _, method in CALLS} == {'DELETE', 'GET', 'HEAD', 'POST', 'PUT'}
    assert {path for path, _ in CALLS} >= {'/api/outline', '/api/masks/{frame:frame}', '/api/open'}


LONG = 'a' * 300
REFUSED = {
    'deep lists': ('POST', 'open', b'[' * 100_000, 400, 'not a whole JSON file'),
    'a huge number': ('POST', 'track', b'{"frame": %s}' % (b'9' * 20), 400, '16 digits'),
    'NaN': ('POST', 'track', b'{"frame": NaN}', 400, 'not JSON compliant'),
    'infinity': ('POST', 'track', b'{"frame": 0, "size": 1e999}', 400, 'not JSON compliant'),
    'a negative frame': ('POST', 'track', {'frame': -1}, 400, 'frame -1: the video has 3'),
    'a frame as text': ('POST', 'track', {'frame': 'x'}, 400, "'frame' is 'x', needed: int"),
    'a tiny size': ('POST', 'track', {'frame': 0, 'size': 1}, 400, 'at least 32 pixels'),
    'a zero byte': ('POST', 'open', {'video': '\0'}, 400, 'not a path'),
    'a lone surrogate': ('POST', 'open', {'video': '\ud800'}, 400, 'surrogates not allowed'),
    'a long name': ('POST', 'open', {'project': LONG * 9}, 400, 'File name too long'),
    'neither': ('POST', 'open', {}, 400, 'neither a project nor a video'),
    'not UTF-8': ('POST', 'open', b'\xff', 400, "can't decode"),
    'another type': ('POST', 'open', b'{}', 415, 'needed: application/json'),
    'a wrong colour': (
        *('PUT', 'objects', {'objects': [{'id': 1, 'name': '', 'colour': '#zzzzzz'}]}),
        *(400, 'a colour as #ff5252'),
    ),
    'a list as colour': (
        *('PUT', 'objects', {'objects': [{'id': 1, 'name': '', 'colour': []}]}),
        *(400, "'objects.0.colour' is [], needed: str"),
    ),
    'no objects': ('PUT', 'objects', {'objects': []}, 400, '1 to 60'),
    'an unknown object': ('POST', 'outline', {'frame': 0, 'object': 7}, 400, 'object 7 is none'),
    'no box': ('POST', 'outline', {'frame': 0, 'object': 1}, 400, 'nothing is drawn'),
    'half a box': ('POST', 'outline', {'frame': 0, 'object': 1, 'box': [1]}, 400, 'a list of 4'),
    'no such page': ('GET', 'nothing', b'', 404, 'Not Found'),
    'another method': ('POST', 'status', b'', 405, 'Method Not Allowed'),
    'a frame that is no number': ('GET', 'frames/x', b'', 404, 'Not Found'),
}


@pytest.mark.parametrize('case', REFUSED.values(), ids=REFUSED.keys())
def test_wrong_requests_are_refused_in_one_line(opened, case):
    method, path, body, wanted, line = case
    headers = {} if wanted == 415 else {'content_type': 'application/json'}
    status, answer, _ = ask(opened, method, f'/api/{path}', body, if_match='"0"', **headers)
    assert status == wanted
    assert line in answer['error']
    assert '\n' not in answer['error']


def test_a_stale_tab_is_refused_and_nothing_is_lost(opened):
    def put(path, body, seen):
        return ask(opened, 'PUT', f'/api/{path}', body, if_match=seen)

    status, _, headers = ask(opened, 'GET', '/api/masks/0')
    assert status == 204
    assert put('masks/0', ONE.tobytes(), headers['etag'])[0] == 200
    status, answer, _ = put('masks/0', bytes(ONE.size), headers['etag'])
    assert status == 409
    assert 'look at it as it is now, and change it again' in answer['error']
    np.testing.assert_array_equal(opened.project.mask(0), ONE)
    now = ask(opened, 'GET', '/api/masks/0')[2]['etag']
    assert ask(opened, 'DELETE', '/api/masks/0', if_match=headers['etag'])[0] == 409
    assert ask(opened, 'DELETE', '/api/masks/0')[0] == 428
    assert ask(opened, 'DELETE', '/api/masks/0', if_match=now)[0] == 200

    project = ask(opened, 'GET', '/api/project')[1]
    more = [*project['objects'], {'id': 2, 'name': 'b', 'colour': '#00ff00'}]
    status, answer, _ = put('objects', {'objects': more}, project['version'])
    assert status == 200
    assert put('objects', {'objects': project['objects']}, project['version'])[0] == 409
    assert opened.project.objects == more
    assert put('objects', {'objects': project['objects']}, answer['version'])[0] == 200


def test_a_mask_for_another_project_is_refused(opened):
    seen = ask(opened, 'GET', '/api/masks/0')[2]['etag']
    clip = opened.library.folder / 'clip.mp4'
    other = opened.library.folder / 'other.mp4'
    other.write_bytes(clip.read_bytes())
    opened.open(*opened.library.find_video('other.mp4'))
    assert opened.project.frames.wait_for(0)
    assert ask(opened, 'PUT', '/api/masks/0', ONE.tobytes(), if_match=seen)[0] == 409
    assert opened.project.mask(0) is None


def test_nothing_but_its_own_unfinished_uploads_is_ever_deleted(opened):
    folder = opened.library.folder
    before = {path: path.stat().st_mtime_ns for path in folder.glob('**/*.*')}
    for name in ('notes.txt', 'projects/clip/project.json'):
        status, answer, _ = ask(opened, 'POST', '/api/open', {'video': name, 'uploaded': True})
        assert status == 400
        assert 'not a video' in answer['error']
    status, answer, _ = ask(opened, 'PUT', '/api/upload/a.mp4', b'no video at all')
    assert status == 400
    assert answer['error'].startswith('a.mp4: not a video')
    assert {path: path.stat().st_mtime_ns for path in folder.glob('**/*.*')} == before
    data = (folder / 'clip.mp4').read_bytes()
    videos = [ask(opened, 'PUT', '/api/upload/clip.mp4', data)[1]['video'] for _ in range(2)]
    assert videos == ['videos/clip.mp4', 'videos/clip-2.mp4']


def test_a_box_gives_the_pixels_of_the_object(opened):
    wanted = {'frame': 0, 'object': 1, 'box': [5.0, 9.0, 27.0, 31.0]}
    status, content, headers = ask(opened, 'POST', '/api/outline', wanted)
    assert (status, headers['content-encoding']) == (200, 'gzip')
    found = np.frombuffer(gzip.decompress(content), np.uint8).reshape(samples.SIZE)
    assert np.count_nonzero(found != ONE) < 0.1 * ONE.sum()
    assert opened.project.mask(0) is None  # the page paints it, and can undo it
