"""Follows the device through the steps: when each was done, with which metrics, at what time."""

import queue
import threading
import time
from typing import NamedTuple

import jax

# Steps that are given to the device before the loop waits for one. One in work and one waiting keep
# it busy; more would only delay the checkpoint that a signal asks for.
AHEAD = 2


class Finished(NamedTuple):
    """A step that the device has finished.

    Attributes:
      step: number of steps done with it.
      metrics: dict of floats.
      device_s: seconds the device took for it.
    """

    step: int
    metrics: dict
    device_s: float


class Follower:
    """Waits for the steps in a thread of its own, so that their times are those of the device.

    A context manager; the thread ends with it.
    """

    def __init__(self):
        self._given, self._finished = queue.Queue(), queue.Queue()
        self._room = threading.Semaphore(AHEAD)
        self._open = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def give(self, step, metrics):
        """Takes the metrics of a step just begun, on the device; waits while too many are open."""
        self._given.put((step, metrics, time.perf_counter()))
        self._open += 1
        self._room.acquire()

    def finished(self, *, wait=False):
        """The steps finished since the last call, in their order; with `wait` all that were given.

        Raises:
          what the computation has raised.
        """
        found = []
        while self._open and (wait or not self._finished.empty()):
            item = self._finished.get()
            self._open -= 1
            if isinstance(item, Exception):
                raise item
            found.append(item)
        return found

    def _follow(self):
        last_s = 0.0
        while (item := self._given.get()) is not None:
            step, metrics, given_s = item
            try:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                now_s = time.perf_counter()
                self._finished.put(Finished(step, values, now_s - max(given_s, last_s)))
                last_s = now_s
            except Exception as error:  # raised again where the step was given
                self._finished.put(error)
            self._room.release()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._given.put(None)
        self._thread.join(timeout=1.0)  # after an error the device may never finish
