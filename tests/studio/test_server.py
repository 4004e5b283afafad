"""The studio as a process: what it accepts, refuses, and keeps."""

import gzip
import json
import subprocess
import sys
import zlib

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.studio.serving import Served
from tests.video import samples

ONE = np.where(samples.first_mask() == 1, 1, 0).astype(np.uint8)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return samples.write_weights(tmp_path_factory.mktemp('weights') / 'tiny.npz')


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'clip.mp4'
    return samples.write_video(path, [samples.draw(n) for n in range(40)])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('studio') / 'folder'


@pytest.fixture(scope='module')
def served(folder, weights):
    studio = Served(folder, weights, '--max_upload_mb=1')
    yield studio
    studio.end()


@pytest.fixture
def opened(served, video):
    """The studio with an uploaded video."""
    data = video.read_bytes()
    status, answer = served.ask('PUT', 'api/upload/clip.mp4', data)
    assert status == 200
    assert served.ask('POST', 'api/open', answer)[0] == 200
    served.wait(lambda status: not status['project']['reading'])
    return served


def test_masks_go_in_and_out_exactly(opened):
    assert opened.ask('GET', 'api/masks/3') == (204, b'')
    assert opened.paint(3, ONE)[0] == 200
    status, content = opened.ask('GET', 'api/masks/3')
    assert status == 200
    found = np.frombuffer(gzip.decompress(content), np.uint8).reshape(samples.SIZE)
    np.testing.assert_array_equal(found, ONE)
    assert opened.ask('GET', 'api/status')[1]['project']['given'] == [3]
    seen = f'{zlib.crc32(ONE.tobytes(), zlib.crc32(project_folder(opened).encode())):08x}'
    assert opened.ask('DELETE', 'api/masks/3', **{'If-Match': seen})[0] == 200
    assert opened.ask('GET', 'api/masks/3') == (204, b'')


REFUSED = {
    'a mask of another size': ('PUT', 'api/masks/0', bytes(100), 400, 'mask of 100 bytes'),
    'a mask too large': ('PUT', 'api/masks/0', bytes(4000), 413, 'more than 3300 bytes'),
    'following nothing': ('POST', 'api/track', {'frame': 0}, 400, 'shows no object'),
    'saving nothing': ('POST', 'api/track', {}, 400, "'frame' is missing"),
    'a video outside': ('POST', 'api/open', {'video': '/etc/passwd'}, 400, 'outside of'),
    'a project outside': ('POST', 'api/open', {'project': '../..'}, 400, 'outside of'),
    'a page as video': ('PUT', 'api/upload/a.html', b'<script>', 400, 'no video'),
    'no video': ('PUT', 'api/upload/a.mp4', b'no video at all', 400, 'a.mp4: not a video'),
    'a video too large': ('PUT', 'api/upload/a.mp4', bytes(2 << 20), 413, 'or --max_upload_mb'),
}


@pytest.mark.parametrize('case', REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_request_is_answered_in_one_line(opened, folder, case):
    method, path, body, wanted, line = case
    before = sorted((folder / 'videos').iterdir())
    status, answer = opened.ask(method, path, body, **{'If-Match': '0'})
    assert status == wanted
    assert line in answer['error']
    assert '\n' not in answer['error']
    assert sorted((folder / 'videos').iterdir()) == before
    # What was open stays open.
    assert opened.ask('GET', 'api/project')[1]['name'].startswith('clip')


@pytest.mark.parametrize('path', ['results/project.json', 'results/..%2fproject.json', 'frames/99'])
def test_other_files_are_not_given_out(opened, path):
    assert opened.ask('GET', f'api/{path}')[0] == 404


@pytest.mark.parametrize('path', ['page/..%2f__main__.py', 'page/../app.py', 'page/%2e%2e/app.py'])
def test_the_page_folder_is_not_left(served, path):
    assert served.ask('GET', path)[0] == 404


def test_wrong_hosts_and_origins_are_refused(served):
    assert served.ask('GET', 'api/status', Host='evil.example')[0] == 403
    assert served.ask('GET', 'api/status', Origin='http://evil.example')[0] == 403
    served_at = served.address
    try:
        served.address = served_at.rsplit('/', 2)[0] + '/wrong/'
        assert served.ask('GET', 'api/status')[0] == 403
    finally:
        served.address = served_at


@pytest.mark.slow
def test_a_killed_studio_resumes_with_all_that_was_done(video, weights, tmp_path):
    first = Served(tmp_path, weights, video)
    first.paint(0, ONE)
    assert first.ask('POST', 'api/track', {'frame': 0})[0] == 200
    assert first.ask('POST', 'api/track', {'frame': 0})[1]['error'].startswith('still busy')
    first.wait(lambda status: status['job'] and status['job']['done'] > 3)
    first.end(kill=True)
    second = Served(tmp_path, weights, tmp_path / 'projects' / 'clip')
    status = second.wait(lambda status: not status['project']['reading'])
    ((begin, end),) = status['project']['masked']
    assert begin == 0
    assert 3 <= end < 39
    second.ask('POST', 'api/track', {'frame': end})
    status = second.wait(lambda status: status['last'])
    assert status['last']['error'] is None
    assert status['project']['masked'] == [[0, 39]]
    assert 'Traceback' not in second.end()


def command(folder, *arguments):
    """(exit code, stderr) of a studio that ends at once."""
    module = [sys.executable, '-m', 'vos_jax.commands.studio', f'--folder={folder}', '--nobrowser']
    ended = subprocess.run(
        [*module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    return ended.returncode, ended.stderr


def test_a_wrong_video_ends_with_one_line_and_code_2(tmp_path):
    (tmp_path / 'x.mp4').write_bytes(b'nothing')
    code, stderr = command(tmp_path / 'studio', str(tmp_path / 'x.mp4'))
    assert (code, stderr.count('\n')) == (2, 1)
    assert 'not a video' in stderr


def test_a_folder_that_is_open_is_refused_to_another_studio(opened, folder, tmp_path):
    code, stderr = command(folder)
    assert (code, stderr.count('\n')) == (2, 1)
    assert 'in use by another process; end the studio that is open there, or name another' in stderr
    code, stderr = command(tmp_path / 'studio', project_folder(opened))
    assert (code, stderr.count('\n')) == (2, 1)
    assert 'in use by another process; close this project in the other studio first' in stderr


def project_folder(studio):
    return studio.ask('GET', 'api/project')[1]['folder']


def test_the_project_file_is_plain(opened, folder):
    name = opened.ask('GET', 'api/project')[1]['name']
    stored = json.loads((folder / 'projects' / name / 'project.json').read_text())
    assert stored['objects'][0] == {'id': 1, 'name': 'Object 1', 'colour': '#ff5252'}
