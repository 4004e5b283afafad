"""Commands in processes of their own, forked from one that has imported what they need.

Most commands of tests take longer for their imports than for their work: 0.3 to 2 s of the
processor. Started as `python -m tests.forks DESCRIPTOR`, the process that is forked opens no device
of JAX, whose threads a fork would lose.
"""

import concurrent.futures
import gc
import importlib
import os
import pickle
import resource
import runpy
import socket
import subprocess
import sys

NEEDED = (
    'ml_collections',
    'vos_jax.data.scenes',
    'vos_jax.evaluation.output_files',
    'vos_jax.evaluation.run',
    'vos_jax.models.giel.model',
    'vos_jax.trained',
    'vos_jax.video.propagate',
)


class Forks:
    """Starts the process that is forked; ends it when closed."""

    def __init__(self):
        self._channel, other = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, '-m', 'tests.forks', str(other.fileno())]
            self._server = subprocess.Popen(
                command,
                pass_fds=[other.fileno()],
                stdout=subprocess.PIPE,  # as those of the commands: no files
                stderr=subprocess.PIPE,
            )

    def run(self, command, before=None, **environment):
        """As `subprocess.run` of [sys.executable, FILE or '-m' or '-c', ...] with texts captured.

        Args:
          before: function of this module that the process calls first.
          environment: variables that neither Python nor JAX has read by then.
        """
        pipes = [os.pipe() for _ in range(2)]
        message = pickle.dumps((command[1:], {**os.environ, **environment}, before))
        socket.send_fds(self._channel, [message], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            texts = list(threads.map(_read, [read for read, _ in pipes]))
        return subprocess.CompletedProcess(command, pickle.loads(self._channel.recv(1000)), *texts)

    def close(self):
        self._channel.close()
        self._server.communicate()


def _read(descriptor):
    with os.fdopen(descriptor) as file:
        return file.read()


def fill_disk():
    """Lets no file grow, which stands for a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def serve(channel):
    """Forks a process for each message; answers with its exit code."""
    for name in NEEDED:
        importlib.import_module(name)
    gc.freeze()  # or each process that ends takes the imports apart
    while True:
        message, descriptors, *_ = socket.recv_fds(channel, 2**20, 2)
        if not message:
            return None
        child = os.fork()
        if child == 0:
            channel.close()
            for standard, descriptor in enumerate(descriptors, start=1):
                os.dup2(descriptor, standard)
                os.close(descriptor)
            return run(*pickle.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(pickle.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def run(arguments, environment, before):
    """Does what `python ARGUMENTS` would."""
    os.environ.clear()
    os.environ.update(environment)
    if before is not None:
        before()
    if arguments[0] == '-m':
        sys.argv = arguments[1:]
        runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
    elif arguments[0] == '-c':
        sys.argv = ['-c', *arguments[2:]]
        exec(arguments[1], {'__name__': '__main__'})
    else:
        sys.argv = arguments
        runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    serve(socket.socket(fileno=int(sys.argv[1])))
