"""A studio in a process of its own, and requests to it."""

import atexit
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

from tests.conftest import REPOSITORY


class Served:
    """A running studio.

    Attributes:
      address: with token and final slash.
    """

    def __init__(self, folder, weights, *arguments):
        command = [sys.executable, '-m', 'vos_jax.commands.studio', *map(str, arguments)]
        command += ['--nobrowser', f'--folder={folder}', f'--weights={weights}']
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.process.kill)  # where a test fails before it ends it
        line = self.process.stdout.readline()
        found = re.search(r'http://127\.0\.0\.1:\d+/\S+', line)
        assert found, (line, self.process.communicate())
        self.address = found[0]

    def ask(self, method, path, body=None, **headers):
        """(status, JSON or bytes) of a request."""
        data = body
        if isinstance(body, dict):
            data, headers = (
                json.dumps(body).encode(),
                {'Content-Type': 'application/json', **headers},
            )
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, content, kind = response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers
        is_json = 'json' in kind.get('content-type', '')
        return status, json.loads(content) if is_json else content

    def paint(self, number, labels):
        """Sends the mask of a frame, on whatever there is."""
        with urllib.request.urlopen(f'{self.address}api/masks/{number}') as response:
            seen = response.headers['ETag']
        return self.ask('PUT', f'api/masks/{number}', labels.tobytes(), **{'If-Match': seen})

    def wait(self, condition, limit_s=200):
        """The first status that meets a condition."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            status = self.ask('GET', 'api/status')[1]
            if condition(status):
                return status
            time.sleep(0.01)  # a small model takes 5 ms for a frame
        raise AssertionError(f'not reached: {status}')

    def end(self, kill=False):
        """Ends the process; gives what it wrote to stderr."""
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        return self.process.communicate(timeout=60)[1]
