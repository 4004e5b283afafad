"""Times inference: python -m benchmarks.inference [--config=FILE[:VARIANT]] [--objects=1,3,6].

Runs the Python API as `evaluate.py` does: a frame goes to the device as uint8, is segmented with a
full memory, and its labels come back; reading and writing files is not included. Each row is
measured in a process of its own; compilation (first frame) and warm-up (until the memory is full)
are apart. `--compare_pytorch=stm` (or `giel`) times a model in PyTorch (benchmarks/pytorch) in the
same process, the two taking turns frame by frame.
"""

import functools
import time

from absl import flags

from benchmarks import configs, inputs, measuring
from vos_jax.config.schema import MemorySpec
from vos_jax.errors import run_main
from vos_jax.inference import views
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import registry
from vos_jax.storage.names import parse_size

COLUMNS = 'config dtype size objects ms best_ms stream_ms cpu_ms compile_s peak_mb memory'
COMPARISON = 'config dtype size objects ms cpu_ms rival rival_ms rival_cpu_ms ratio cpu_ratio'


# Frames that are read where the config sets no bound (STM), so that a memory can be full.
NUM_MEMORY = 5


class Running:
    """A video that is being segmented: compiled, its memory full.

    Attributes:
      model, variables, dtype: of the config, with made-up weights.
      num_memory: frames that are read.
      labels: u8[H, W] of the first frame after the given one.
      first_s: time of that frame, with the compilation.
    """

    def __init__(self, spec, dtype, size, num_objects):
        config = configs.load_for_device(spec, dtype)
        self.dtype = config.model.dtype
        self.model = registry.build(config.model)
        memory = config.inference.memory
        if memory.size > 10 * NUM_MEMORY:
            memory = MemorySpec('sample', NUM_MEMORY)
        self.num_memory = memory.size
        self.variables = inputs.variables_of(self.model, num_objects)
        seen = views.build(self.model, config.inference)
        self._segmenter = Segmenter(seen, self.variables, memory=memory)
        self._frames, self._masks = inputs.make_video(size, memory.size + 1, num_objects)
        self._now = 0
        self._segmenter.start(self._frames[0], self._masks)
        start = time.perf_counter()
        self.labels = self.step()
        self.first_s = time.perf_counter() - start
        for _ in range(memory.size):
            self.step()
        self._lazy = self._segmenter.sibling(lazy=True)
        self._lazy.restore(self._segmenter.state())

    def stream_ms(self, num_frames):
        """Time of a frame in `Segmenter.segment`, where the next one is computed meanwhile."""
        warm = self.num_memory + 1
        frames = (self._frames[t % len(self._frames)] for t in range(warm + num_frames + 1))
        times = [time.perf_counter() for _ in self._segmenter.segment(frames, self._masks)]
        return 1000 * (times[-1] - times[warm]) / num_frames

    def step(self):
        """Segments one frame; its labels are on the host."""
        self._now = (self._now + 1) % len(self._frames)
        return self._segmenter.step(self._frames[self._now])

    def dispatch(self):
        """Segments one frame of the same video; its labels stay on the device."""
        self._now = (self._now + 1) % len(self._frames)
        return self._lazy.step(self._frames[self._now])


def measure(spec, dtype, size, num_objects, num_frames):
    """One row: time of a frame, compile time and peak memory, for one number of objects."""
    measuring.without_cached_compilations()
    running = Running(spec, dtype, size, num_objects)
    measuring.forget_peak_memory()
    row = _about(spec, running, size, num_objects)
    row |= measuring.summary_ms([measuring.timed(running.step)[1:] for _ in range(num_frames)])
    row['compile_s'] = running.first_s - row['ms'] / 1000
    row['stream_ms'] = running.stream_ms(num_frames)
    return row | measuring.peak_memory() | {'machine': measuring.machine()}


def compare(rival, spec, dtype, size, num_objects, num_frames):
    """One row with a PyTorch model beside it; the two take turns, and change who goes first.

    Args:
      rival: 'stm' of the published size, or 'giel': the same model as that of the config.
      spec, dtype, size, num_objects, num_frames: as for `measure`.
    """
    from benchmarks.pytorch import running as pytorch
    from benchmarks.pytorch import stm, weights

    pytorch.prepare(measuring.num_cores())
    ours = Running(spec, dtype, size, num_objects)
    twin = stm.STM() if rival == 'stm' else weights.make_twin(ours.model, ours.variables)
    its = pytorch.Running(twin, size, num_objects, NUM_MEMORY, ours.dtype)
    mine, other = measuring.take_turns([ours.step, its.step], num_frames)
    row = _about(spec, ours, size, num_objects) | mine
    row |= {'rival': f'{rival} PyTorch', 'rival_ms': other['ms'], 'rival_cpu_ms': other['cpu_ms']}
    row |= {'ratio': mine['ms'] / other['ms'], 'cpu_ratio': mine['cpu_ms'] / other['cpu_ms']}
    return row | {'machine': measuring.machine()}


def _about(spec, running, size, num_objects):
    text = f'{size[1]}x{size[0]}'
    return {'config': spec, 'dtype': running.dtype, 'size': text, 'objects': num_objects}


def main(argv):
    """Measures and prints; one row per number of objects."""
    del argv
    wanted = flags.FLAGS
    size = parse_size(wanted.size)
    configs.load(wanted.config)  # a wrong name is an error of this process, in one line
    if wanted.compare_pytorch:
        measuring.check_pytorch()
    function, columns = measure, COLUMNS
    if wanted.compare_pytorch:
        function, columns = functools.partial(compare, wanted.compare_pytorch), COMPARISON
    rows = []
    for num_objects in map(int, wanted.objects):
        print(f'{wanted.config}, {wanted.size}, objects: {num_objects}', flush=True)
        rows.append(
            measuring.in_own_process(
                function, wanted.config, wanted.dtype, size, num_objects, wanted.frames
            )
        )
    measuring.report('inference', rows, columns, wanted.out)


if __name__ == '__main__':
    flags.DEFINE_string('config', 'configs/giel_resnet50.py', 'FILE[:VARIANT] of the model.')
    flags.DEFINE_enum('dtype', '', ['', 'float32', 'bfloat16'], "Instead of the config's own.")
    flags.DEFINE_string('size', '854x480', 'Frames, WIDTHxHEIGHT.')
    flags.DEFINE_list('objects', ['1', '3', '6'], 'Numbers of objects.')
    flags.DEFINE_integer('frames', 10, 'Frames to time.', lower_bound=1)
    flags.DEFINE_enum('compare_pytorch', None, ['stm', 'giel'], 'Model in PyTorch to time beside.')
    flags.DEFINE_string('out', None, 'JSON file for the figures.')
    run_main(main)
