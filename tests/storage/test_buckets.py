"""Files in a bucket: folders that grow there, and what a bucket refuses in one line."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import types

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from vos_jax import recipe
from vos_jax.checkpoint_files import list_steps
from vos_jax.data import scenes
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
    for name in ('gs:', 'gs://', 'gs:///'):
        with pytest.raises(InputError, match='names no bucket; needed: gs://BUCKET/NAME'):
            paths.path_of(name)
    for name in ('gs://bucket', 'gs://bucket/'):
        with pytest.raises(InputError, match='a bucket; name a file in it'):
            paths.check_object(name)
    paths.check_object('gs://bucket/a')


@pytest.mark.parametrize('name', ['runs/a*', 'e?', '[x]', 'a/[0]/b', 'a#1', 'a/../b', '..'])
def test_what_clients_do_not_take_as_it_is_written_is_refused_in_a_bucket(name):
    with pytest.raises(InputError, match='name it without'):
        paths.path_of(f'gs://bucket/{name}')


def answers():
    """What the clients raise where the service answers with an error, again and again."""
    pytest.importorskip('gcsfs')
    from aiohttp import ClientPayloadError
    from gcsfs.retry import HttpError
    from google.api_core import exceptions
    from google.auth.exceptions import TransportError

    kinds = exceptions.ServiceUnavailable, exceptions.TooManyRequests
    kinds += exceptions.InternalServerError, TransportError, ClientPayloadError
    return [
        *(HttpError({'code': code, 'message': 'busy'}) for code in (429, 500, 502, 503, 504)),
        *(kind('busy') for kind in kinds),
        *(
            ValueError(f'{word}: Error writing "gs://bucket/a/d/0"')
            for word in ('RESOURCE_EXHAUSTED', 'INTERNAL', 'UNAVAILABLE')
        ),
        ValueError("ABORTED: All 32 retry attempts failed: busy [http_response_code='503']"),
    ]


def test_a_service_that_answers_with_errors_is_named():
    for error in answers():
        assert 'does not answer, after several tries' in paths.bucket_reason(error), repr(error)


def test_a_step_with_the_number_of_an_error_is_none():
    for step in (401, 403, 404, 500, 503):
        error = ValueError(f'DATA_LOSS: Error reading "gs://bucket/latest/{step}/d/0": no CRC')
        assert paths.bucket_reason(error) is None


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
def test_names_like_patterns_are_stored_and_removed_alone(gcs):
    place = gcs()
    names = ['a*.png', 'ab.png', 'd[1].png', 'd1.png', 'e?.png', 'ef.png']
    with Mirror(place.url) as mirror:
        for name in names:
            (mirror.folder / name).write_text(name)
        mirror.upload()
        for name in names[::2]:
            (mirror.folder / name).unlink()
    assert sorted(path.name for path in place.disk.iterdir()) == sorted(names[1::2])


@pytest.mark.slow
def test_a_folder_in_a_bucket_is_resumed_and_follows_what_is_written(gcs, tmp_path, monkeypatch):
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
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    with pytest.raises(InputError, match='holds something else; name another --out'):
        Mirror(place.url, 'about.json')
    assert not list(tmp_path.glob('vos_jax-*'))


MAKE_UP = """
import sys
from vos_jax.commands import made_up
sizes = ['--num_train=1', '--num_val=1', '--frames=3', '--size=64x64']
sys.argv = ['made_up', f'--out={sys.argv[1]}', *sizes]
made_up.run()
"""


@contextlib.contextmanager
def answering(code, message, port=0):
    """The address of a server that answers everything with an HTTP code and a message."""

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

    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def refusing():
    """Returns a function: HTTP code and message -> the address of a server that answers so."""
    with contextlib.ExitStack() as stack:
        yield lambda *answer: stack.enter_context(answering(*answer))


REFUSALS = [
    (403, 'a@b does not have storage.objects.create access', 'no permission; give the account'),
    (401, 'Anonymous caller does not have storage.objects.create', 'no valid credentials; gcl'),
    (404, 'The specified bucket does not exist.', 'no such bucket or object; check the name'),
]


@pytest.mark.slow
@pytest.mark.parametrize(('code', 'message', 'words'), REFUSALS)
def test_what_a_bucket_refuses_is_one_line(run_python, refusing, code, message, words):
    pytest.importorskip('gcsfs')
    address = refusing(code, message)
    done = run_python(MAKE_UP, 'gs://vos-bucket/out', STORAGE_EMULATOR_HOST=address)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: gs://vos-bucket/out: cannot be written: {words}')
    assert not os.path.exists(REPOSITORY / 'gs:')


TRAIN = ['--config=giel_small:tiny', '--config.evaluation.sources={{}}', '--workdir={folder}/run']
ROOT = '--config.data.sources.synthetic.root={bucket}'
COMMANDS = {
    'the run of train': ('train', *TRAIN[:2], '--workdir={bucket}'),
    'the data of train': ('train', *TRAIN, ROOT),
    'compilations': ('train', *TRAIN, '--compilation_cache={bucket}'),
    'weights': ('evaluate', '--weights={bucket}/a.npz', '--protocol=davis2017', '--data={folder}'),
    'a run': ('evaluate', '--workdir={bucket}', '--protocol=davis2017', '--data={folder}'),
    'the run of status': ('status', '{bucket}'),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_every_place_that_a_bucket_refuses_is_named(refusing, tmp_path, name):
    pytest.importorskip('gcsfs')
    scenes.write_dataset(tmp_path, num_train=1, num_val=1, frames=3, size=(64, 64), seed=0)
    for code, message, words in REFUSALS[:1] if name != 'weights' else REFUSALS:
        environment = {**os.environ, 'STORAGE_EMULATOR_HOST': refusing(code, message)}
        module, *flags = COMMANDS[name]
        flags = [flag.format(folder=tmp_path, bucket='gs://vos-bucket/here') for flag in flags]
        command = [sys.executable, '-m', f'vos_jax.commands.{module}', *flags]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 2, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
        assert 'gs://vos-bucket/here' in line
        assert words in line


@pytest.mark.slow
def test_a_network_that_breaks_in_mid_write_loses_nothing(gcs):
    place, data = gcs(), np.random.default_rng(0).bytes(60_000_000)

    def cut():
        before = gcs.server.num_bytes_read()
        while gcs.server.num_bytes_read() < before + 1_000_000:
            time.sleep(0.001)
        gcs.server.stop()
        assert not (place.disk / 'large').exists()
        gcs.server.start()

    with Mirror(place.url) as mirror:
        (mirror.folder / 'large').write_bytes(data)
        cutting = threading.Thread(target=cut)
        cutting.start()
    cutting.join()
    assert (place.disk / 'large').read_bytes() == data
    assert not mirror.folder.exists()


COMPILE = """
import sys
import jax, jax.numpy as jnp
from vos_jax import compilation
compilation.keep_compilations(sys.argv[1])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)  # however fast the machine is
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith('cache_hits')))
def function(x):
    return jnp.sin(x) @ x
x = jnp.ones((4, 4))
hits.clear()
jax.jit(function)(x)
print(sum(hits))
"""


@pytest.mark.slow
def test_programs_compiled_once_are_found_in_a_bucket(gcs, run_python):
    place = gcs()
    found = [run_python(COMPILE, f'{place.url}/compilations') for _ in range(2)]
    assert [one.returncode for one in found] == [0, 0], found[0].stderr
    assert [one.stdout for one in found] == ['0\n', '1\n']
    assert len([*(place.disk / 'compilations').glob('jit_function*')]) == 1


def test_the_death_of_another_process_is_no_fault_of_the_bucket():
    error = TimeoutError('Timed out while waiting for async_write_complete barrier.')
    with pytest.raises(TimeoutError), paths.explained('gs://vos-bucket/run'):
        raise error
    with pytest.raises(InputError, match='does not answer'), paths.explained('gs://vos-bucket/run'):
        raise TimeoutError('timed out')


@pytest.mark.slow
def test_errors_of_the_service_end_no_upload_and_are_named_by_readers(gcs, monkeypatch, caplog):
    place = gcs()

    async def go_on(_):
        pass

    monkeypatch.setattr('gcsfs.retry.asyncio', types.SimpleNamespace(sleep=go_on))
    with Mirror(place.url) as mirror:
        (mirror.folder / 'checkpoints').mkdir()
        (mirror.folder / 'checkpoints/a').write_text('1')
        gcs.server.stop()
        try:
            with answering(503, 'busy', gcs.server.port):
                mirror.keep_up()
                with pytest.raises(InputError, match='cannot be written: the service does not'):
                    mirror.upload()
                for read in (recipe.stored, list_steps):
                    with pytest.raises(InputError, match='cannot be read: the service does not'):
                        read(place.url)
            with answering(400, 'something invalid', gcs.server.port):
                mirror.keep_up()  # what nobody has foreseen
        finally:
            gcs.server.start()
    warnings = [record.getMessage() for record in caplog.records if record.name == 'absl']
    assert ['does not answer' in warnings[0], 'Bad Request' in warnings[1]] == [True, True]
    assert (place.disk / 'checkpoints/a').read_text() == '1'
    with pytest.raises(InputError, match='no such file beside its checkpoints; restore the file'):
        recipe.stored(place.url)


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
