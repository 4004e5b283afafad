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
