"""Marks, follows and corrects objects on a local page: vos-studio [VIDEO]

VIDEO is a video file, a folder of frames, or the folder of a project; without it the page asks.
The page is served on this machine alone, at an address with a random token. More:
docs/own_video.md.
"""

import functools
import socket
import webbrowser
from pathlib import Path

from absl import flags as absl_flags
from absl import logging

from vos_jax import malloc
from vos_jax.commands import flags
from vos_jax.errors import InputError, run_main
from vos_jax.storage.disk import writing_to
from vos_jax.storage.paths import local
from vos_jax.video.scaling import working_size


def define_flags():
    flags.define_model()
    absl_flags.DEFINE_string('folder', 'vos_studio', 'where uploaded videos and projects are kept')
    absl_flags.DEFINE_integer('port', 0, 'port of the page; 0: any that is free', 0, 65535)
    absl_flags.DEFINE_bool('browser', True, 'open the page in the browser')
    flags.define_number('max_upload_mb', 2048, 'largest video that the page takes', 1)
    flags.define_short_side(None, 'at first; default 240 on CPUs, 480 else')


def main(argv):
    """Serves until Ctrl+C; what is wrong with the input is reported before."""
    wanted = absl_flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 2:
        raise InputError('name one video, or none: vos-studio [VIDEO]')
    flags.check_model(wanted)
    malloc.restart_with_huge_pages()
    working_size((0, 0), wanted.short_side or 0)  # refuses one that is too small
    with writing_to(local(wanted.folder, '--folder'), '--folder'):
        _serve(wanted, argv[1] if len(argv) == 2 else None)


def _serve(wanted, path):
    # Here: they need packages that other commands do without, and take their time.
    import uvicorn

    from vos_jax.studio import app, guard
    from vos_jax.studio.library import Library
    from vos_jax.studio.project import Project
    from vos_jax.studio.worker import Worker

    library = Library(wanted.folder, wanted.max_upload_mb)
    opened = Project(*_find(library, path)) if path else None
    listener = _listen(wanted.port)
    port, token = listener.getsockname()[1], guard.new_token()
    worker = Worker(lambda: _open_segmenter(wanted))
    studio = app.Studio(library, worker, wanted.short_side, opened)
    address = f'http://127.0.0.1:{port}/{token}/'
    print(f'studio: {address}\nprojects: {library.folder / "projects"}; Ctrl+C ends', flush=True)
    if wanted.browser:
        webbrowser.open(address)
    config = uvicorn.Config(
        guard.Guard(app.build(studio), token, port),
        log_level='warning',
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn ends in order and passes it on
        pass
    finally:
        studio.close()
    print('\nstudio: ended, all is saved')


def _find(library, path):
    """(folder, video) of a video, of a project folder or of its project.json."""
    from vos_jax.studio import project

    wanted = Path(path).resolve()
    folder = wanted.parent if wanted.name == project.FILE else wanted
    if (folder / project.FILE).is_file():
        return folder, project.read_file(folder)['video']
    if not wanted.exists():
        raise InputError(f'{path}: no such video; name a video file or a folder of frames')
    library.trust(wanted)
    return library.find_video(wanted)


def _listen(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(('127.0.0.1', port))
    except OSError as error:
        raise InputError(f'--port={port}: {error.strerror}; name another, or 0') from None
    listener.listen(64)  # at once: the browser may come before the server is up
    return listener


def _open_segmenter(wanted):
    from vos_jax import compilation

    return flags.open_model(wanted).segmenter(), compilation.describe_device()['device']


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
