"""The log of a run: what the steps gave, how long they took, and whether all is well."""

import queue
import threading
import time
from typing import NamedTuple

import jax
import numpy as np

from vos_jax import compilation, processes
from vos_jax.storage.progress import Speed
from vos_jax.training import flops, health
from vos_jax.training.metric_writer import step_line

# Steps that are given to the device before the loop waits for one. One in work and one waiting keep
# it busy; more would only delay the checkpoint that a signal asks for.
AHEAD = 2


class Finished(NamedTuple):
    """A step that the device has finished."""

    step: int  # number of steps done with it
    metrics: dict  # of floats
    device_s: float  # seconds the device took for it


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


class RunLog:
    """Follows the device, keeps the metrics of its steps and writes their means at log steps."""

    def __init__(self, config, workdir, writer, program, start):
        self._writer, self._program = writer, program
        self._steps = config.training.steps
        self._speed = Speed(self._steps, done=start)
        self._nonfinite = health.NonFinite(config, workdir)
        self._follower, self._finished, self._waits_s = Follower(), [], []
        self._written = start, time.perf_counter()
        if writer:
            self._flops = program.flops()
            rate, is_measured = flops.peak(jax.local_devices()[0])
            # What was measured on a CPU is the rate of all its cores, whatever devices it acts.
            self._peak = rate * (jax.process_count() if is_measured else program.mesh.size)

    def __enter__(self):
        self._follower.__enter__()
        return self

    def __exit__(self, *exception):
        self._follower.__exit__(*exception)

    def wait_for(self, batches):
        """The next batch."""
        start_s = time.perf_counter()
        batch = next(batches)
        self._waits_s.append(time.perf_counter() - start_s)
        return batch

    def record(self, step, metrics):
        """Takes the metrics of a step that has begun, and looks at those that are finished."""
        self._follower.give(step, metrics)
        self._look(self._follower.finished())

    def check(self):
        """Raises FloatingPointError if the run has to stop for a step given so far."""
        self._look(self._follower.finished(wait=True))

    def write(self, step):
        """Writes the means since the last log step and prints one line."""
        self.check()
        sound = [f.metrics for f in self._finished if f.metrics['finite']]
        sound = sound or [f.metrics for f in self._finished]
        means = {name: float(np.mean([m[name] for m in sound])) for name in sound[0]}
        means['learning_rate'] = float(self._program.rate(step - 1))
        if self._writer:
            self._writer.write_scalars(step, {**means, **self._machine(step)})
        shown = [name for name in means if name not in ('weight_norm', 'finite', 'learning_rate')]
        scalars = {**{name: means[name] for name in shown}, 'lr': means['learning_rate']}
        speed = self._speed.since_last(step)  # the first includes compilation
        processes.say(step_line(step, self._steps, scalars, speed))
        self._finished, self._waits_s = [], []
        self._written = step, time.perf_counter()

    def _look(self, finished):
        for item in finished:
            self._nonfinite.check(item.step, item.metrics)
        self._finished += finished

    def _machine(self, step):
        """Scalars about the machine since the last log step."""
        last_step, last_s = self._written
        # The median: compilation and evaluation are no part of a step.
        device_s = float(np.median([f.device_s for f in self._finished]))
        host, device = compilation.peak_memory()
        most = max(self._flops)
        rates = [
            self._flops[int(f.metrics.get('slots', most))] / f.device_s for f in self._finished
        ]
        return {
            'machine/step_s': (time.perf_counter() - last_s) / max(step - last_step, 1),
            'machine/device_step_s': device_s,
            'machine/data_wait_s': float(np.mean(self._waits_s)),
            'machine/memory_mb': (device or host) / 2**20,
            'machine/mfu': float(np.median(rates) / self._peak),
        }
