"""What a request must look like: read here alone, or refused in one line with a status of 4xx."""

import json

from starlette.convertors import Convertor, register_url_convertor

from vos_jax.errors import InputError
from vos_jax.storage.json_files import check_form, parse_json

_MAX_JSON_BYTES = 1 << 20
_REMEDY = 'reload the page'


class Refused(InputError):
    """Wrong input with a status of its own."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class _FrameNumber(Convertor):
    """A part of an address that is the number of a frame."""

    regex = '[0-9]{1,7}'
    convert, to_string = int, str


register_url_convertor('frame', _FrameNumber())


async def read_json(request, form):
    """Plain values of a form, as `check_form` takes it: finite numbers, whole text."""
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind != 'application/json':
        raise Refused(415, f'the request is of type {kind[:60]!r}, needed: application/json')
    body = await read_body(request, _MAX_JSON_BYTES)
    values = parse_json(body, 'the request', _check_plain, _REMEDY)
    check_form(values, form, 'the request', _REMEDY)
    return values


async def read_body(request, limit):
    return b''.join([part async for part in read_parts(request, limit)])


async def read_parts(request, limit, remedy=_REMEDY):
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Refused(413, f'the request has more than {limit} bytes; {remedy}')
        yield part


def read_version(request):
    """What the page says it has seen of what it changes."""
    seen = request.headers.get('if-match')
    if seen is None:
        raise Refused(428, f'the request lacks If-Match, what it has seen; {_REMEDY}')
    return seen.strip('"')


def _check_plain(values):
    """Refuses NaN, infinity, endless numbers and halves of characters."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False)
    json.loads(text.encode(), parse_int=_check_digits)


def _check_digits(digits):
    if len(digits) > 16:
        raise ValueError('a number of more than 16 digits')
