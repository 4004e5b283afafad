"""Files in a bucket: folders that grow there, and what a bucket refuses in one line."""

import http.server
import json
import os
import threading
import time

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from vos_jax.errors import InputError
from vos_jax.storage import paths
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.json_files import read_json, write_json
from vos_jax.storage.mirror import Mirror
from vos_jax.storage.npz_files import read_npz, write_npz


def test_names_of_buckets_are_known_and_others_refused(tmp_path):
    assert paths.is_bucket('gs://bucket/a')
    assert paths.is_bucket('gs:/bucket/a')  # as pathlib leaves it
    assert not paths.is_bucket(tmp_path)
    assert paths.path_of(tmp_path) == tmp_path
    for name in ('s3://bucket/a', 'https://server/a'):
        with pytest.raises(InputError, match='not a folder, nor gs://; mount'):
            paths.path_of(name)


def test_a_local_folder_is_its_own_mirror(tmp_path):
    with Mirror(tmp_path / 'out', 'run.json') as mirror:
        mirror.upload()
        mirror.fetch()
        assert mirror.folder == tmp_path / 'out'
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_files_come_back_from_a_bucket(gcs):
    place = gcs()
    write_bytes(f'{place.url}/a/b', b'some')
    assert (place.disk / 'a/b').read_bytes() == b'some'
    write_json(f'{place.url}/c.json', {'d': 1})
    assert read_json(f'{place.url}/c.json', {'d': int}) == {'d': 1}
    arrays = {'x': np.arange(5)}
    write_npz(f'{place.url}/e.npz', arrays)
    np.testing.assert_array_equal(read_npz(f'{place.url}/e.npz')['x'], arrays['x'])
    with pytest.raises(InputError, match='npz: cannot be read: no such bucket or object'):
        read_npz(f'{place.url}/f.npz')


@pytest.mark.slow
def test_a_folder_in_a_bucket_is_resumed_and_follows_what_is_written(gcs):
    place = gcs()
    with Mirror(place.url, 'run.json') as mirror:
        for name in ('run.json', 'a/b.png', '.c.tmp', 'gone.txt'):
            (mirror.folder / name).parent.mkdir(exist_ok=True)
            (mirror.folder / name).write_text('1')
        mirror.upload()
        assert (place.disk / 'a/b.png').read_text() == '1'
        (mirror.folder / 'gone.txt').unlink()
        (mirror.folder / 'a/b.png').write_text('changed')
    with Mirror(place.url, 'run.json') as mirror:
        found = {path.relative_to(mirror.folder).as_posix() for path in mirror.folder.rglob('*.*')}
        assert found == {'run.json', 'a/b.png'}
        assert (mirror.folder / 'a/b.png').read_text() == 'changed'
    with pytest.raises(InputError, match='holds something else; name another --out'):
        Mirror(place.url, 'about.json')


MAKE_UP = """
import sys
from vos_jax.commands import made_up
sizes = ['--num_train=1', '--num_val=1', '--frames=3', '--size=64x64']
sys.argv = ['made_up', f'--out={sys.argv[1]}', *sizes]
made_up.run()
"""


@pytest.fixture
def refusing():
    """Returns a function: HTTP code and message -> the address of a server that answers so."""
    servers = []

    def start(code, message):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({'error': {'code': code, 'message': message}}).encode()
                self.send_response(code)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *arguments):
                pass

        servers.append(http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f'http://127.0.0.1:{servers[-1].server_port}'

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('code', 'message', 'words'),
    [
        (403, 'a@b does not have storage.objects.create access', 'no permission; give the account'),
        (401, 'Anonymous caller does not have storage.objects.create', 'no valid credentials; gcl'),
        (404, 'The specified bucket does not exist.', 'no such bucket or object; check the name'),
    ],
)
def test_what_a_bucket_refuses_is_one_line(run_python, refusing, code, message, words):
    pytest.importorskip('gcsfs')
    address = refusing(code, message)
    done = run_python(MAKE_UP, 'gs://vos-bucket/out', STORAGE_EMULATOR_HOST=address)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: gs://vos-bucket/out: cannot be written: {words}')
    assert not os.path.exists(REPOSITORY / 'gs:')


@pytest.mark.slow
def test_a_network_that_is_gone_is_one_line_after_some_tries(gcs, run_python):
    place = gcs()
    gcs.server.stop()
    try:
        start_s = time.monotonic()
        done = run_python(MAKE_UP, place.url)
    finally:
        gcs.server.start()
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert 'the service does not answer, after several tries' in line
    assert 5 < time.monotonic() - start_s < 100
