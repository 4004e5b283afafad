"""The one thread that owns the model, and what it is doing."""

import errno
import functools
import queue
import threading
import time
import traceback

from vos_jax.errors import InputError


class Worker:
    """Does jobs one after the other; `status` says how far it is, from any thread.

    Args:
      open_segmenter: called in the thread; gives the Segmenter and the name of its device.
    """

    def __init__(self, open_segmenter):
        self._open, self._segmenter = open_segmenter, None
        self._calls = queue.Queue()  # of functions, for the thread
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._job, self._last, self._count = None, None, 0
        self._model = {'state': 'loading', 'message': ''}
        self.device = ''
        self._thread = threading.Thread(target=self._run, name='model', daemon=True)
        self._thread.start()

    def submit(self, kind, begin, *, needs_model=True, total=None, **about):
        """Takes a job; InputError where one is waiting or under way.

        Args:
          kind: what it is called.
          begin: function of (segmenter, should_stop) that gives an iterator over frame numbers.
          needs_model: whether the model must have been loaded well.
          total: function that gives how many frames it takes, or None.
          about: plain values for the status.
        """
        with self._lock:
            busy = self._job
            if busy is not None:
                raise InputError(f'still busy: {busy["kind"]}; wait for it, or stop it')
            self._count += 1
            self._stop.clear()
            self._job = {'kind': kind, 'number': self._count, 'frame': None, 'done': 0, **about}
        total = total or (lambda: None)
        self._calls.put(functools.partial(self._do, begin, needs_model, total))

    def prepare(self, function):
        """Calls function(segmenter) when there is nothing else to do: no job, and it may fail."""
        self._calls.put(functools.partial(self._prepare, function))

    def stop(self, wait=False):
        """Ends the job after the frame that it is at."""
        self._stop.set()
        while wait and self._job is not None:
            time.sleep(0.02)

    def status(self):
        """Plain values: model, job under way (or None), and how the last one ended."""
        job = self._job
        return {
            'model': dict(self._model),
            'device': self.device,
            'job': dict(job) if job else None,
            'last': self._last,
        }

    def _run(self):
        self._load()
        while True:
            self._calls.get()()

    def _load(self):
        try:
            self._segmenter, self.device = self._open()
            self._model = {'state': 'ready', 'message': ''}
        except InputError as error:
            self._model = {'state': 'failed', 'message': str(error)}
        except Exception as error:  # shown on the page; the terminal has the rest
            traceback.print_exc()
            self._model = {'state': 'failed', 'message': repr(error)}

    def _do(self, begin, needs_model, total):
        ended = {'kind': self._job['kind'], 'number': self._job['number'], 'error': None}
        try:
            if needs_model and self._segmenter is None:
                raise InputError(f'the model is not there: {self._model["message"]}')
            self._work(begin(self._segmenter, self._stop.is_set), total)
        except InputError as error:
            ended['error'] = str(error)
        except OSError as error:
            ended['error'] = explain(error)
        except Exception as error:  # the page continues; the terminal has the rest
            traceback.print_exc()
            ended['error'] = f'a defect of the program: {error!r}'
        ended |= {'stopped': self._stop.is_set(), 'done': self._job['done']}
        ended |= {'frame': self._job['frame'], 'start': self._job.get('start')}
        self._last, self._job = ended, None

    def _prepare(self, function):
        if self._segmenter is None or self._job is not None:
            return
        self._model = {'state': 'preparing', 'message': ''}
        try:
            function(self._segmenter)
        except Exception:  # the job that needs it says what is wrong
            traceback.print_exc()
        self._model = {'state': 'ready', 'message': ''}

    def _work(self, numbers, total):
        start_s = time.monotonic()
        self._job = self._job | {'total': total()}
        for number in numbers:
            done = self._job['done'] + 1
            now_s = time.monotonic()
            if done == 1:  # compiling is in the first
                first_s = now_s
            fps = (done - 1) / (now_s - first_s) if done > 1 else 1 / (now_s - start_s)
            every = total()
            left_s = None if every is None or done < 3 else max(every - done, 0) / fps
            state = {'frame': number, 'done': done, 'total': every, 'fps': fps, 'left_s': left_s}
            self._job = self._job | state


def explain(error):
    """One line for what the disk refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 'the disk is full: make room and try again; what was done is kept'
    return f'{error.filename or "a file"}: {error.strerror}; what was done is kept'
