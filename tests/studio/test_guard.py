"""Which requests reach the studio."""

import asyncio

import pytest

from vos_jax.studio.guard import Guard, new_token

TOKEN, PORT = 'secret', 5000
HOST = f'127.0.0.1:{PORT}'


def ask(path=f'/{TOKEN}/api/status', **headers):
    """(status, path that the application saw, headers) of a request."""
    seen, answers = [], []

    async def app(scope, receive, send):
        seen.append(scope['path'])
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        await send({'type': 'http.response.body', 'body': b''})

    async def send(message):
        answers.append(message)

    headers = {'host': HOST, **headers}
    pairs = [(name.replace('_', '-').encode(), value.encode()) for name, value in headers.items()]
    scope = {'type': 'http', 'method': 'GET', 'path': path, 'headers': pairs}
    asyncio.run(Guard(app, TOKEN, PORT)(scope, None, send))
    return answers[0]['status'], seen, dict(answers[0]['headers'])


@pytest.mark.parametrize('host', [HOST, f'localhost:{PORT}'])
def test_the_page_itself_gets_through_without_its_token(host):
    status, seen, headers = ask(host=host, origin=f'http://{host}', sec_fetch_site='same-origin')
    assert (status, seen) == (200, ['/api/status'])
    assert b"default-src 'none'" in headers[b'Content-Security-Policy']
    assert headers[b'Referrer-Policy'] == b'no-referrer'


@pytest.mark.parametrize('path', ['/', '/api/status', '/secre/api', '/secretx/', '/secret', '/é/'])
def test_an_address_without_the_token_is_refused(path):
    assert ask(path)[:2] == (403, [])


@pytest.mark.parametrize(
    'headers',
    [
        {'host': f'evil.example:{PORT}'},  # a name that points here
        {'host': '127.0.0.1:5001'},
        {'host': ''},
        {'origin': 'http://evil.example'},
        {'origin': f'http://localhost:{PORT}'},  # another origin than the host asked
        {'origin': 'null'},
        {'sec_fetch_site': 'cross-site'},
    ],
)
def test_other_hosts_and_origins_are_refused(headers):
    assert ask(**headers)[:2] == (403, [])


def test_tokens_are_long_and_never_the_same():
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 32
