"""What the page asks for: the HTTP side of the studio."""

import contextlib
import gzip
import threading
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vos_jax.errors import InputError
from vos_jax.storage.json_files import parse_json
from vos_jax.storage.palette import COLOURS
from vos_jax.studio import saving, worker
from vos_jax.studio.tracking import Tracking, prepare

_PAGE = Path(__file__).parent / 'page'
_MAX_JSON_BYTES = 1 << 20
_NO_STORE = {'Cache-Control': 'no-store'}
SIZES = (240, 360, 480, 720)


class Studio:
    """State of the server: the library, the worker, and the project that is open.

    Attributes:
      library: library.Library.
      worker: worker.Worker.
      short_side: at which the model works at first, or None.
      project: project.Project or None.
    """

    def __init__(self, library, model_worker, short_side):
        self.library, self.worker, self.short_side = library, model_worker, short_side
        self.project = None
        self._lock = threading.Lock()

    def open(self, make):
        """Opens a project and closes the one before; `make` gives it."""
        with self._lock:
            project = make()
            before, self.project = self.project, None
            if before is not None:
                self.worker.stop(wait=True)
                before.close()
            self.project = project
        size = project.size
        self.worker.prepare(lambda segmenter: prepare(segmenter, size, self.default_size()))

    def default_size(self):
        """Short side at which the model works, where the page does not say: small on a CPU."""
        if self.short_side is not None:
            return self.short_side
        return 240 if 'cpu' in self.worker.device or not self.worker.device else 480

    def close(self):
        """Closes the project; its job is stopped first."""
        with self._lock:
            before, self.project = self.project, None
            if before is not None:
                self.worker.stop(wait=True)
                before.close()

    def needed(self):
        """The open project."""
        if self.project is None:
            raise InputError('no video is open')
        return self.project

    def status(self):
        """Plain values for the page, asked for again and again."""
        values = self.worker.status() | {'short_side': self.default_size()}
        project = self.project
        if project is not None:
            values['project'] = {
                'name': project.folder.name,
                'version': project.version,
                'frames': project.frames.count,
                'expected': project.frames.expected,
                'reading': project.frames.is_reading,
                'damage': project.frames.damage,
                'masked': ranges(project.masked),
                'given': sorted(project.given),
            }
        return values

    def describe(self):
        """Plain values of the open project."""
        project = self.needed()
        return {
            'name': project.folder.name,
            'folder': str(project.folder),
            'video': str(project.video.path),
            'size': list(project.size),
            'video_size': list(project.video.size),
            'rate': float(project.video.rate),
            'objects': project.objects,
            'colours': COLOURS,
            'sizes': [s for s in SIZES if s < min(project.size)] + [0],
        }


def ranges(numbers):
    """Rising numbers as [first, last] pairs: short, and whole.

    >>> ranges({3, 4, 5, 9})
    [[3, 5], [9, 9]]
    """
    found = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def build(studio):
    """The Starlette application."""
    routes = [
        Route('/', _page),
        Mount('/page', _Fresh(directory=_PAGE)),
        Route('/api/library', _get(lambda s, r: s.library.listing())),
        Route('/api/status', _get(lambda s, r: s.status())),
        Route('/api/project', _get(lambda s, r: s.describe())),
        Route('/api/upload/{name}', _upload, methods=['PUT']),
        Route('/api/open', _post(_open), methods=['POST']),
        Route('/api/close', _post(lambda s, values: s.close()), methods=['POST']),
        Route('/api/objects', _post(_set_objects), methods=['PUT']),
        Route('/api/frames/{number:int}', _frame),
        Route('/api/masks/{number:int}', _mask),
        Route('/api/masks/{number:int}', _paint, methods=['PUT']),
        Route('/api/masks/{number:int}', _forget, methods=['DELETE']),
        Route('/api/track', _post(_track), methods=['POST']),
        Route('/api/save', _post(_save), methods=['POST']),
        Route('/api/stop', _post(lambda s, values: s.worker.stop()), methods=['POST']),
        Route('/api/results/{name}', _result),
    ]
    app = Starlette(
        routes=routes, exception_handlers={InputError: _told, OSError: _told, KeyError: _told}
    )
    app.state.studio = studio
    return app


class _Fresh(StaticFiles):
    """Files of the page, asked for again after an update of the program."""

    def file_response(self, *args, **kwargs):
        response = super().file_response(*args, **kwargs)
        response.headers['Cache-Control'] = 'no-cache'
        return response


async def _told(request, error):
    """Wrong input and a refusing disk become one line that the page shows."""
    if isinstance(error, InputError):
        return JSONResponse({'error': ' '.join(str(error).split())}, 400, _NO_STORE)
    if isinstance(error, OSError):
        return JSONResponse({'error': worker.explain(error)}, 507, _NO_STORE)
    return JSONResponse({'error': f'the request lacks {error}'}, 400, _NO_STORE)


def _get(function):
    def endpoint(request):
        return JSONResponse(function(request.app.state.studio, request), headers=_NO_STORE)

    return endpoint


def _post(function):
    """An endpoint that takes JSON: function(studio, values) in a thread of its own."""

    async def endpoint(request):
        body = await _read_body(request, _MAX_JSON_BYTES)
        values = parse_json(body or b'{}', 'the request', dict, 'reload the page')
        result = await run_in_threadpool(function, request.app.state.studio, values)
        return JSONResponse(result or {}, headers=_NO_STORE)

    return endpoint


async def _read_body(request, limit):
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise InputError(f'the request has more than {limit} bytes')
        parts.append(part)
    return b''.join(parts)


def _page(request):
    return FileResponse(_PAGE / 'index.html', headers=_NO_STORE)


def _check_upload(size, limit):
    if size > limit:
        raise InputError(
            f'larger than {limit >> 20} MB; start the studio with the file, or --max_upload_mb'
        )


async def _upload(request):
    """Takes a video in pieces; one that is too large or cut off leaves nothing."""
    library = request.app.state.studio.library
    path = library.upload_path(request.path_params['name'])
    limit = library.max_upload_bytes
    _check_upload(int(request.headers.get('content-length') or 0), limit)
    part = path.with_name(f'.{path.name}.part')
    try:
        with open(part, 'wb') as file:
            async for piece in request.stream():
                _check_upload(file.tell() + len(piece), limit)
                file.write(piece)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return JSONResponse({'video': str(path.relative_to(library.folder))}, headers=_NO_STORE)


def _open(studio, values):
    if 'project' in values:
        studio.open(lambda: studio.library.open_project(str(values['project'])))
        return
    try:
        studio.open(lambda: studio.library.open_video(str(values['video'])))
    except InputError:
        if values.get('uploaded'):  # of no use to anyone
            with contextlib.suppress(InputError, OSError):
                studio.library.video(str(values['video'])).unlink()
        raise


def _set_objects(studio, values):
    objects = values['objects']
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise InputError('objects: needed: a list of id, name and colour')
    studio.needed().set_objects(objects)


def _frame(request):
    frames, number = request.app.state.studio.needed().frames, request.path_params['number']
    if number >= frames.count:
        return JSONResponse({'error': 'not read yet'}, 404, _NO_STORE)
    # Frames of a project never change; another project is at the same address.
    return FileResponse(frames.jpeg(number), headers={'Cache-Control': 'no-cache'})


def _mask(request):
    """u8[H, W] as it lies in memory, packed for the way; empty where there is none."""
    labels = request.app.state.studio.needed().mask(request.path_params['number'])
    if labels is None:
        return Response(status_code=204, headers=_NO_STORE)
    headers = {'Content-Encoding': 'gzip', **_NO_STORE}
    data = gzip.compress(labels.tobytes(), 1)
    return Response(data, media_type='application/octet-stream', headers=headers)


async def _paint(request):
    project = request.app.state.studio.needed()
    height, width = project.size
    body = await _read_body(request, height * width)
    if len(body) != height * width:
        raise InputError(f'mask of {len(body)} bytes, the frame has {width}x{height} pixels')
    labels = np.frombuffer(body, np.uint8).reshape(height, width)
    await run_in_threadpool(project.paint, request.path_params['number'], labels)
    return JSONResponse({'version': project.version}, headers=_NO_STORE)


def _forget(request):
    request.app.state.studio.needed().forget(request.path_params['number'])
    return JSONResponse({}, headers=_NO_STORE)


def _track(studio, values):
    project, direction = studio.needed(), -1 if values.get('backwards') else 1
    start, short_side = int(values['frame']), int(values.get('size', studio.default_size()))
    labels = project.mask(start)
    if labels is None or not labels.any():
        raise InputError(f'frame {start} shows no object: mark one in it first')
    run = None

    def begin(segmenter, should_stop):
        nonlocal run
        run = Tracking(segmenter, project, start, direction, short_side)
        return run.run(should_stop)

    studio.worker.submit(
        'track', begin, total=lambda: run.total(), start=start, direction=direction
    )


def _save(studio, values):
    project = studio.needed()
    studio.worker.submit(
        'save',
        lambda _, should_stop: saving.save_results(project, should_stop),
        needs_model=False,
        total=lambda: project.frames.expected,
    )


def _result(request):
    name = request.path_params['name']
    path = request.app.state.studio.needed().folder / 'results' / name
    if name not in saving.FILES or not path.is_file():
        return JSONResponse({'error': 'not saved yet'}, 404, _NO_STORE)
    project = request.app.state.studio.project.folder.name
    kind = 'inline' if 'show' in request.query_params else 'attachment'
    return FileResponse(
        path, filename=f'{project}-{name}', content_disposition_type=kind, headers=_NO_STORE
    )
