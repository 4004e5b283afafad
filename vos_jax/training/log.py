"""The log of a run: what the steps gave, how long they took, and whether all is well."""

import time

import jax
import numpy as np

from vos_jax import compilation
from vos_jax.storage.progress import Speed
from vos_jax.training import flops, health, processes
from vos_jax.training.follower import Follower
from vos_jax.training.metric_writer import step_line


class RunLog:
    """Follows the device, keeps the metrics of its steps and writes their means at log steps."""

    def __init__(self, config, workdir, writer, program, start):
        self._writer, self._program = writer, program
        self._steps = config.training.steps
        self._speed = Speed(self._steps, done=start)
        self._nonfinite = health.NonFinite(config, workdir, processes.is_writer())
        self._follower, self._finished, self._waits_s = Follower(), [], []
        self._flops, self._peak = None, None
        self._written = start, time.perf_counter()

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
        rate = self._flops and np.median([self._rate(step) for step in self._finished]) / self._peak
        return {
            'machine/step_s': (time.perf_counter() - last_s) / max(step - last_step, 1),
            'machine/device_step_s': device_s,
            'machine/data_wait_s': float(np.mean(self._waits_s)),
            'machine/memory_mb': (device or host) / 2**20,
            **({} if rate is None else {'machine/mfu': float(rate)}),
        }

    def _rate(self, step):
        slots = step.metrics.get('slots', max(self._flops))
        return self._flops[int(slots)] / step.device_s

    def count_flops(self):
        """Makes the log report the share of the devices' peak that is used."""
        if processes.is_writer():
            self._flops = self._program.flops()
            rate, is_measured = flops.peak(jax.local_devices()[0])
            # What was measured on a CPU is the rate of all its cores, however many devices it acts.
            devices = jax.process_count() if is_measured else self._program.mesh.size
            self._peak = rate * devices
