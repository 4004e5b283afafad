"""What the page asks for: the HTTP side of the studio."""

import gzip
import json
import math
import threading
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vos_jax.errors import InputError, one_line
from vos_jax.storage.atomic import temporary_path
from vos_jax.storage.palette import COLOURS
from vos_jax.studio import requests, saving, worker
from vos_jax.studio.outline import outline
from vos_jax.studio.project import OBJECTS_FORM, Project
from vos_jax.studio.requests import Refused
from vos_jax.studio.tracking import Tracking, prepare
from vos_jax.video import scaling
from vos_jax.video.reader import open_video

_PAGE = Path(__file__).parent / 'page'
_NO_STORE = {'Cache-Control': 'no-store'}
SIZES = (240, 360, 480, 720)


class Studio:
    """State of the server: the library, the worker, and the project that is open, or None.

    `short_side`: that of the frames for the model at first, or None.
    """

    def __init__(self, library, model_worker, short_side, project=None):
        self.library, self.worker, self.short_side = library, model_worker, short_side
        self.project = None
        self._lock = threading.Lock()
        self._replace(project)

    def open(self, folder, video):
        """Opens a project, where it is not the one that is open, and closes the one before."""
        with self._lock:
            if self.project is None or self.project.folder != folder:
                self._replace(Project(folder, video))

    def close(self):
        """Closes the project; its job is stopped first."""
        with self._lock:
            self._replace(None)

    def _replace(self, project):
        before, self.project = self.project, None
        if before is not None:
            self.worker.stop(wait=True)
            before.close()
        self.project = project
        if project is not None:
            size = project.size
            self.worker.prepare(lambda segmenter: prepare(segmenter, size, self.default_size()))

    def default_size(self):
        """Short side at which the model works, where the page does not say: small on a CPU."""
        if self.short_side is not None:
            return self.short_side
        return 240 if 'cpu' in self.worker.device or not self.worker.device else 480

    def needed(self):
        """The open project; InputError where there is none."""
        if self.project is None:
            raise InputError('no video is open: open one on the start page')
        return self.project

    def status(self):
        """Plain values for the page, asked for again and again."""
        values = self.worker.status() | {'short_side': self.default_size()}
        project = self.project
        if project is not None:
            values['project'] = {
                'name': project.folder.name,
                'frames': project.frames.count,
                'expected': project.frames.expected,
                'reading': project.frames.is_reading,
                'damage': project.frames.damage,
                'masked': ranges(project.masked),
                'given': sorted(project.given),
            }
        return values

    def describe(self):
        project = self.needed()
        objects = project.objects
        return {
            'name': project.folder.name,
            'folder': str(project.folder),
            'video': str(project.video.path),
            'size': list(project.size),
            'video_size': list(project.video.size),
            'rate': float(project.video.rate),
            'objects': objects,
            'version': project.version_of(objects),
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
        Route('/', lambda request: FileResponse(_PAGE / 'index.html', headers=_NO_STORE)),
        Mount('/page', _Fresh(directory=_PAGE)),
        _route('GET', 'library', lambda studio, values: studio.library.listing()),
        _route('GET', 'status', lambda studio, values: studio.status()),
        _route('GET', 'project', lambda studio, values: studio.describe()),
        Route('/api/upload/{name}', _upload, methods=['PUT']),
        _route('POST', 'open', _open, {'project?': str, 'video?': str}),
        _route('POST', 'close', lambda studio, values: studio.close(), {}),
        _route('PUT', 'objects', _set_objects, {'objects': OBJECTS_FORM}),
        _route('GET', 'frames/{frame:frame}', _frame),
        _route('GET', 'masks/{frame:frame}', _mask),
        _route('PUT', 'masks/{frame:frame}', _paint, bytes),
        _route('DELETE', 'masks/{frame:frame}', _forget),
        _route('POST', 'outline', _outline, _OUTLINE),
        _route('POST', 'track', _track, {'frame': int, 'backwards?': bool, 'size?': int}),
        _route('POST', 'save', _save, {}),
        _route('POST', 'stop', lambda studio, values: studio.worker.stop(), {}),
        _route('GET', 'results/{name}', _result),
    ]
    told = (InputError, OSError, HTTPException, ClientDisconnect)
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys(told, _told))
    app.state.studio = studio
    return app


_POINT = (float, float)
_OUTLINE = {
    'frame': int,
    'object': int,
    'box?': _POINT * 2,
    'scribbles?': [{'inside': bool, 'points': [_POINT]}],
    'radius?': float,
}


def _route(method, path, function, form=None):
    """A route to a function that is called in a thread of its own.

    Args:
      method: of HTTP. PUT and DELETE need the version that they change, in If-Match.
      path: below /api.
      function: of the studio and of `values`: parts of the path, the JSON of the body, or `body`
        itself, `show` of the query, and `seen`, the version. Gives plain values or a response.
      form: of the JSON in the body; bytes: a pixel of the open project's frames each; None: none.
    """

    async def endpoint(request):
        studio = request.app.state.studio
        values = {}
        if form is bytes:
            values['body'] = await requests.read_body(request, math.prod(studio.needed().size))
        elif form is not None:
            values = await requests.read_json(request, form)
        values |= {'show': 'show' in request.query_params, **request.path_params}
        if method in ('PUT', 'DELETE'):
            values['seen'] = requests.read_version(request)
        result = await run_in_threadpool(function, studio, values)
        return result if isinstance(result, Response) else _json(result or {})

    return Route(f'/api/{path}', endpoint, methods=[method])


def _json(values, status=200):
    # ASCII: names of files need not be Unicode.
    data = json.dumps(values).encode()
    return Response(data, status, _NO_STORE, 'application/json')


class _Fresh(StaticFiles):
    """Files of the page, asked for again after an update of the program."""

    def file_response(self, *args, **kwargs):
        response = super().file_response(*args, **kwargs)
        response.headers['Cache-Control'] = 'no-cache'
        return response


async def _told(request, error):
    """Wrong input and a refusing disk become one line that the page shows."""
    if isinstance(error, InputError):
        return _json({'error': one_line(error)}, getattr(error, 'status', 400))
    if isinstance(error, OSError):
        return _json({'error': worker.explain(error)}, 507)
    if isinstance(error, HTTPException):
        return _json({'error': error.detail}, error.status_code)
    return _json({'error': 'the request was cut off'}, 400)  # nobody hears it


async def _upload(request):
    """Takes a video in pieces; one that is too large, cut off or no video leaves nothing."""
    library = request.app.state.studio.library
    name, limit = request.path_params['name'], library.max_upload_bytes
    temporary = temporary_path(library.upload_path(name))
    remedy = 'start the studio with the file, or --max_upload_mb'
    try:
        with open(temporary, 'wb') as file:
            async for part in requests.read_parts(request, limit, remedy):
                file.write(part)
        await run_in_threadpool(_check_video, temporary, name)
        path = library.upload_path(name)  # still free: nothing waits from here to the renaming
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return _json({'video': str(path.relative_to(library.folder))})


def _check_video(path, name):
    try:
        open_video(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), name)) from None


def _open(studio, values):
    if 'project' in values:
        studio.open(*studio.library.find_project(values['project']))
    elif 'video' in values:
        studio.open(*studio.library.find_video(values['video']))
    else:
        raise InputError('the request names neither a project nor a video; reload the page')


def _set_objects(studio, values):
    return {'version': studio.needed().set_objects(values['objects'], values['seen'])}


def _frame(studio, values):
    frames, number = studio.needed().frames, values['frame']
    if number >= frames.count:
        raise Refused(404, 'not read yet')
    # Frames of a project never change; another project is at the same address.
    return Response(frames.data(number), 200, {'Cache-Control': 'no-cache'}, 'image/jpeg')


def _mask(studio, values):
    """Ids of a frame; empty where there is none."""
    project = studio.needed()
    labels = project.mask(values['frame'])
    headers = {'ETag': f'"{project.version_of(labels)}"', **_NO_STORE}
    return Response(None, 204, headers) if labels is None else _packed(labels, headers)


def _packed(labels, headers):
    """u8[H, W] as it lies in memory, packed for the way."""
    headers = {'Content-Encoding': 'gzip', **headers}
    data = gzip.compress(labels.tobytes(), 1)
    return Response(data, 200, headers, 'application/octet-stream')


def _paint(studio, values):
    project, body = studio.needed(), values['body']
    height, width = project.size
    if len(body) != height * width:
        raise InputError(f'mask of {len(body)} bytes, the frame has {width}x{height} pixels')
    labels = np.frombuffer(body, np.uint8).reshape(height, width)
    project.paint(values['frame'], labels, values['seen'])
    return {'version': project.version_of(labels)}


def _forget(studio, values):
    studio.needed().forget(values['frame'], values['seen'])


def _outline(studio, values):
    """The mask of an object that is drawn around, or on: 1 inside. The page paints it."""
    project, number, wanted = studio.needed(), values['frame'], values['object']
    project.check_frame(number)
    if wanted not in project.ids():
        raise InputError(f'object {wanted} is none here: {project.ids()} are')
    labels = project.mask(number)
    found = outline(
        project.frames.image(number, project.size),
        np.zeros(project.size, np.uint8) if labels is None else labels,
        wanted,
        box=values.get('box'),
        scribbles=values.get('scribbles', ()),
        radius=values.get('radius', 3),
    )
    return _packed(found, _NO_STORE)


def _track(studio, values):
    project, direction = studio.needed(), -1 if values.get('backwards') else 1
    start, short_side = values['frame'], values.get('size', studio.default_size())
    project.check_frame(start)
    scaling.working_size(project.size, short_side)
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


def _result(studio, values):
    name, project = values['name'], studio.needed()
    path = project.folder / 'results' / name
    if name not in saving.FILES or not path.is_file():
        raise Refused(404, 'not saved yet')
    kind = 'inline' if values['show'] else 'attachment'
    return FileResponse(
        path,
        filename=f'{project.folder.name}-{name}',
        content_disposition_type=kind,
        headers=_NO_STORE,
    )
