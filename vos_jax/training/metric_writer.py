"""What a run reports: event files for TensorBoard, metrics.jsonl, a line for each log step.

TensorBoard's own writer of event files is used; TensorFlow is not needed.
"""

import contextlib
import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from vos_jax.errors import InputError
from vos_jax.storage.atomic import write_bytes
from vos_jax.storage.json_files import parse_json
from vos_jax.storage.paths import path_of


class MetricWriter:
    """Writes scalars and images of a run; a context manager.

    WORKDIR/metrics.jsonl has a line of JSON per step with all its scalars, WORKDIR/events the same
    for TensorBoard, WORKDIR/images each image as a PNG too.
    """

    def __init__(self, workdir, start_step=0):
        """
        Args:
          workdir: folder of the run.
          start_step: step from which the run resumes. What was written for later steps, before the
            run was killed, is dropped: those steps come again.
        """
        self._workdir = Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        path = self._workdir / 'metrics.jsonl'
        _drop_after(path, start_step)
        self._lines = path.open('a', encoding='utf-8', buffering=1)  # a kill loses no line
        self._events = EventFileWriter(str(self._workdir / 'events'))
        if start_step:
            # TensorBoard hides older events from this step on: the one resumed from stays.
            session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add_event(start_step + 1, session_log=session)

    def write_scalars(self, step, scalars):
        """Writes {name: number} at a step; arrays of one element are fetched from their device."""
        scalars = {name: float(value) for name, value in scalars.items()}
        finite = {name: x if math.isfinite(x) else None for name, x in scalars.items()}
        self._lines.write(json.dumps({'step': int(step), **finite}) + '\n')
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=x) for name, x in scalars.items()
        ]
        self._add_event(step, summary=summary_pb2.Summary(value=values))

    def write_images(self, step, images):
        """Writes {name: u8[H, W, 3]} at a step."""
        values = []
        for name, image in images.items():
            png = _png(image)
            write_bytes(self._workdir / 'images' / f'{name}_{int(step):07d}.png', png, sync=False)
            height, width = image.shape[:2]
            encoded = summary_pb2.Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=png
            )
            values.append(summary_pb2.Summary.Value(tag=name, image=encoded))
        self._add_event(step, summary=summary_pb2.Summary(value=values))

    def flush(self):
        """Brings everything written so far to the disk."""
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._events.flush()

    def close(self):
        self.flush()
        self._lines.close()
        self._events.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _add_event(self, step, **content):
        self._events.add_event(event_pb2.Event(step=int(step), wall_time=time.time(), **content))


def read_metrics(workdir):
    """The lines of WORKDIR/metrics.jsonl as dicts.

    A line that cannot be read, as a power cut or a full disk leaves it, is left out: a log must not
    keep a run from resuming.
    """
    path = path_of(workdir) / 'metrics.jsonl'
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().split(b'\n')[:-1]:
        with contextlib.suppress(InputError):
            found.append(parse_json(line, path, {'step': int}))
    return found


def _drop_after(path, step):
    if path.is_dir():
        raise InputError(f'{path}: a folder, where the metrics of the run go; move it away')
    kept = [line for line in read_metrics(path.parent) if line['step'] <= step]
    if path.exists():
        write_bytes(path, ''.join(json.dumps(line) + '\n' for line in kept).encode())


def _png(image):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image, np.uint8)).save(buffer, 'PNG')
    return buffer.getvalue()


def step_line(step, steps, scalars, speed):
    """The line of a log step: step, loss terms, speed and remaining time.

    Args:
      step: number of steps done.
      steps: of the run.
      scalars: {name: number}, printed in this order.
      speed: text of `storage.progress.Speed`.
    """
    terms = ''.join(f'  {name} {float(value):.4g}' for name, value in scalars.items())
    return f'step {step:{len(str(steps))}d}/{steps}{terms}  {speed}'


def parameter_overview(variables):
    """Table of all variables, a nested dict, with shapes and their total number, as text."""
    import jax
    from clu import parameter_overview as clu_overview  # machines that only compute may lack clu

    table = clu_overview.get_parameter_overview(variables, include_stats=False)
    # Its sum counts in floats as soon as one parameter is a scalar.
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    return f'{table.rpartition("Total: ")[0]}Total: {count:,}'
