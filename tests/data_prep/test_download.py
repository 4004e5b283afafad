"""Downloads from a server on this machine: whole, checked, resumed."""

import hashlib
import http.server
import threading

import pytest

from data_prep.download import download
from vos_jax.errors import InputError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT as /set.zip, from any byte on; /short.zip ends too early."""

    def do_GET(self):
        self.server.ranges.append(self.headers['Range'])
        if self.path not in ('/set.zip', '/short.zip'):
            self.send_error(404)
            return
        start = int((self.headers['Range'] or 'bytes=0-')[6:-1])
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : 999 if self.path == '/short.zip' else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(('127.0.0.1', 0), Server) as running:
        running.ranges = []
        running.url = f'http://127.0.0.1:{running.server_port}'
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server, tmp_path):
    for _ in range(2):
        path, found = download(f'{server.url}/set.zip', tmp_path / 'in', SHA256)
        assert (path.read_bytes(), found) == (CONTENT, SHA256)
    assert server.ranges == [None]


def test_an_interrupted_download_resumes(server, tmp_path):
    (tmp_path / '.set.zip.part').write_bytes(CONTENT[:1234])
    path, _ = download(f'{server.url}/set.zip', tmp_path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ['bytes=1234-']


def test_another_checksum_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(InputError, match=rf'sha256 is {SHA256}, must be 00'):
        download(f'{server.url}/set.zip', tmp_path, '00')
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_ends_early_is_no_file(server, tmp_path):
    with pytest.raises(InputError, match='ended after 999 of 256000 bytes; run again'):
        download(f'{server.url}/short.zip', tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['.short.zip.part']


def test_what_the_server_says_is_reported(server, tmp_path):
    with pytest.raises(InputError, match=r'/none\.zip: HTTP Error 404'):
        download(f'{server.url}/none.zip', tmp_path)
