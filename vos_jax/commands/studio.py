"""Marks, follows and corrects objects on a local page: python -m vos_jax.commands.studio [VIDEO]

VIDEO is a video file, a folder of frames, or the folder of a project; without it the page asks.
The page is served on this machine alone, at an address with a random token. All flags: --help.
More: docs/own_video.md.
"""

import socket
import webbrowser
from pathlib import Path

from absl import flags, logging

from vos_jax import weights_choice
from vos_jax.errors import InputError, run_main
from vos_jax.evaluation.output_files import explain_disk_errors, prepare_folder
from vos_jax.studio import guard, project
from vos_jax.studio.library import Library
from vos_jax.studio.worker import Worker


def define_flags():
    # Not at the top: other commands have flags of the same names.
    weights_choice.define_flags()
    flags.DEFINE_string('folder', 'vos_studio', 'where uploaded videos and projects are kept')
    flags.DEFINE_integer('port', 0, 'port of the page; 0: any that is free', 0, 65535)
    flags.DEFINE_bool('browser', True, 'open the page in the browser')
    flags.DEFINE_float('max_upload_mb', 2048, 'largest video that the page takes', 1)
    flags.DEFINE_integer(
        'size',
        None,
        'shorter side at which the model works at first; default 240 on CPUs, 480 else',
    )


def main(argv):
    """Serves until Ctrl+C; what is wrong with the input is told before."""
    wanted = flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 2:
        raise InputError('name one video, or none: python -m vos_jax.commands.studio [VIDEO]')
    weights_choice.check_flags(wanted)
    with explain_disk_errors():
        prepare_folder(Path(wanted.folder))
        _serve(wanted, argv[1] if len(argv) == 2 else None)


def _serve(wanted, path):
    # Here: it takes its time, and what is wrong with the input is told before.
    import uvicorn

    from vos_jax.studio import app

    library = Library(wanted.folder, wanted.max_upload_mb)
    opened = _open(library, path) if path else None
    listener = _listen(wanted.port)
    port, token = listener.getsockname()[1], guard.new_token()
    studio = app.Studio(library, Worker(lambda: _open_segmenter(wanted)), wanted.size)
    if opened is not None:
        studio.open(lambda: opened)
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


def _open(library, path):
    """The project of a video, of a project folder or of its project.json."""
    wanted = Path(path)
    folder = wanted.parent if wanted.name == project.FILE else wanted
    if (folder / project.FILE).is_file():
        return project.Project(folder, project.read_file(folder)['video'])
    library.trust(wanted)
    return library.open_video(wanted.resolve())


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
    segmenter, _ = weights_choice.open_segmenter(wanted)
    return segmenter, weights_choice.describe_device()['device']


if __name__ == '__main__':
    define_flags()
    run_main(main)
