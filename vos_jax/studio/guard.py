"""Keeps everyone out but the page itself: token, host, origin, and what the page may load."""

import secrets

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',  # the address holds the token
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
}


def new_token():
    """192 random bits for the address."""
    return secrets.token_urlsafe(24)


class Guard:
    """ASGI middleware around the application, which sees paths without the token.

    A page of another site can make a browser send requests here, under a name that it has pointed
    to 127.0.0.1 too, but it knows neither the token nor can it change Host and Origin.
    """

    def __init__(self, app, token, port):
        self._app, self._token = app, token
        self._hosts = {f'{name}:{port}' for name in ('127.0.0.1', 'localhost')}

    async def __call__(self, scope, receive, send):
        if scope['type'] == 'lifespan':
            return await self._app(scope, receive, send)
        if scope['type'] != 'http':
            return None  # no web sockets here
        reason = self._reason_to_refuse(scope)
        if reason:
            text, headers = f'refused: {reason}\n', {'Cache-Control': 'no-store'}
            return await PlainTextResponse(text, 403, headers)(scope, receive, send)
        inner = dict(scope, root_path='', path=scope['path'][len(self._token) + 1 :])

        async def send_guarded(message):
            if message['type'] == 'http.response.start':
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, 'headers': [*message.get('headers', ()), *own]}
            await send(message)

        return await self._app(inner, receive, send_guarded)

    def _reason_to_refuse(self, scope):
        headers = Headers(scope=scope)
        host = headers.get('host', '')
        if host not in self._hosts:
            return 'this host'
        origin = headers.get('origin')
        if origin is not None and origin != f'http://{host}':
            return 'this origin'
        if headers.get('sec-fetch-site') == 'cross-site':
            return 'requests of other sites'
        token, slash, _ = scope['path'].removeprefix('/').partition('/')
        if not slash or not secrets.compare_digest(token.encode(), self._token.encode()):
            return 'an address without its token; use the one that the studio printed'
        return None
