"""Reading ahead and writing behind: what overlaps with the model's work."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable

_END = object()


def ahead(items: Iterable, depth: int) -> Generator:
    """Yields the items in order; another thread takes up to `depth` of them in advance.

    An error of `items` is raised where the item would have come.

    >>> list(ahead(range(3), depth=2))
    [0, 1, 2]
    """
    ready, stop = queue.Queue(depth), threading.Event()
    thread = threading.Thread(
        target=_read, args=(items, ready, stop), name='read ahead', daemon=True
    )
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        thread.join()


def _read(items, ready, stop):
    try:
        for item in items:
            _offer(ready, (item, None), stop)
            if stop.is_set():
                return
        _offer(ready, (_END, None), stop)
    except BaseException as error:  # raised where the items are used
        _offer(ready, (_END, error), stop)


def _offer(ready, item, stop):
    """Waits for room, or until nobody wants the item."""
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            ready.put(item, timeout=0.1)
            return


class Behind:
    """A context that makes calls one after the other in another thread.

    Leaving it waits for them and raises what went wrong; later calls are dropped after an error.
    Up to `depth` calls wait; `put` blocks while that many do.
    """

    def __init__(self, depth: int):
        self._waiting = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name='write behind', daemon=True)

    def put(self, call: Callable[[], object]) -> None:
        """Hands over a call; raises the error of an earlier one."""
        if self._error is not None:
            raise self._error
        self._waiting.put(call)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._waiting.put(_END)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self):
        while (call := self._waiting.get()) is not _END:
            if self._error is not None:
                continue  # keeps taking, so that nobody waits for room
            try:
                call()
            except BaseException as error:  # raised in the thread that hands over
                self._error = error


def end_with(parent: int) -> None:
    """Ends this process when its parent is gone, which one that was killed cannot ask for."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
