"""Times the loader: python -m benchmarks.data [--data=ROOT --split=val] [--json=FILE].

Clips of 4 frames, crop 740x384, flip, scaling, rotation, shear and jitter (pasting and colours are
off, as in the papers' configurations). The floor is plain decoding of the same JPEGs from memory
into a fresh array each. Without --data a procedural set of 854x480 is drawn first.
"""

import json
import resource
import statistics
import tempfile
import time

import cv2
import numpy as np
import simplejpeg
from absl import flags

from vos_jax.data import augment, layouts, pipeline, synthetic
from vos_jax.data.settings import read_settings
from vos_jax.errors import run_main

CROP = (384, 740)
LENGTH = 4
SETTINGS = {
    'batch_size': 4,
    'crop': CROP,
    'clip_length': LENGTH,
    'gap': ((0, 2),),
    'scale': (1.0, 1.4),
    'rotation': 15.0,
    'shear': 5.0,
    'jitter': {'rotation': 3.0, 'scale': 0.05, 'shift': 0.02},
}


def main(argv):
    """Prints the table, and writes it as JSON where a file is named."""
    del argv
    wanted = flags.FLAGS
    if wanted.data:
        figures = measure(wanted.data, wanted.split, wanted.clips, wanted.workers)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print('drawing 6 sequences of 8 frames, 854x480')
            synthetic.write_dataset(folder, 5, 1, 8, (480, 854), seed=0)
            figures = measure(folder, 'train', wanted.clips, wanted.workers)
    print_table(figures)
    if wanted.json:
        with open(wanted.json, 'w') as file:
            json.dump(figures, file, indent=1)
        print(f'figures in {wanted.json}')


def measure(root, split, num_clips, worker_counts):
    """All figures for one data set, as nested dicts."""
    data = SETTINGS | {'sources': [{'root': str(root), 'split': split}]}
    sequences = layouts.davis(root, split)
    floor_ms, stages = time_stages(sequences, read_settings(data))
    loader_ms, memory = time_loader(data, num_clips)
    kilobytes = mean_bytes(sequences) / 1000
    figures = {
        'data': {
            'frames': sum(len(sequence.frames) for sequence in sequences),
            'size': f'{sequences[0].size[1]}x{sequences[0].size[0]}',
            'jpeg_kilobytes': round(kilobytes, 1),
        },
        'cpu_ms_per_frame': {'floor': floor_ms, **stages},
        'cpu_ms_per_clip': {'floor': LENGTH * floor_ms, 'loader': loader_ms},
        'loader_to_floor': loader_ms / (LENGTH * floor_ms),
        'memory_mb': memory,
        'workers': {},
    }
    for count in map(int, worker_counts):
        rate = time_workers(data | {'num_workers': count}, num_clips)
        figures['workers'][count] = {
            'clips_per_s': rate,
            'clips_per_s_per_worker': rate / max(count, 1),
            'jpeg_mb_per_s_per_worker': rate / max(count, 1) * LENGTH * kilobytes / 1000,
        }
    return figures


def time_stages(sequences, settings, repeats=7):
    """CPU time of each stage by itself, in ms per frame: (floor, other stages)."""
    cv2.setNumThreads(1)
    places = [(s, t) for s in sequences for t in range(len(s.frames))]
    jpegs = [s.frames[t].read_bytes() for s, t in places]
    frames = [s.read_frame(t, pad=True) for s, t in places[:8]]
    masks = [s.read_labels(s.stems[t]) for s, t in places[:8]]
    buffer, out = np.empty_like(frames[0]), np.empty((*CROP, 3), np.uint8)
    mask_out = np.empty(CROP, np.uint8)
    rng = np.random.default_rng(0)
    linear = augment.draw_linear(rng, settings, sequences[0].size)
    centre = augment.draw_centre(rng, linear, sequences[0].size, CROP)
    matrix = augment.draw_matrices(rng, CROP, settings.jitter, linear, centre, 1)[0]
    stages = {
        'read and decode frame': (lambda p: p[0].read_frame(p[1], pad=True, buffer=buffer), places),
        'read mask': (lambda p: p[0].read_labels(p[0].stems[p[1]]), places),
        'warp frame': (lambda frame: augment.warp_frame(frame, matrix, out), frames * 6),
        'warp mask': (lambda mask: augment.warp_labels(mask, matrix, mask_out), masks * 6),
    }
    floor_ms = cpu_ms(lambda jpeg: simplejpeg.decode_jpeg(jpeg, colorspace='RGB'), jpegs, repeats)
    return floor_ms, {name: cpu_ms(*stage, repeats) for name, stage in stages.items()}


def cpu_ms(function, arguments, repeats):
    """Median over the repeats of the mean CPU time of a call, in ms."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for argument in arguments:
            function(argument)
        times.append((time.process_time() - start) / len(arguments) * 1000)
    return statistics.median(times)


def time_loader(data, num_clips):
    """CPU time of a clip in one thread, in ms, and the largest memory early and at the end."""
    maker = pipeline.BatchMaker(read_settings(data), seed=0)
    num_batches = max(num_clips // SETTINGS['batch_size'], 10)
    times, early = [], 0
    for step in range(num_batches):
        start = time.process_time()
        maker(step)
        times.append(time.process_time() - start)
        if step == num_batches // 10:
            early = peak_mb()
    memory = {'after a tenth': early, 'at the end': peak_mb()}
    return statistics.median(times) / SETTINGS['batch_size'] * 1000, memory


def time_workers(data, num_clips):
    """Clips per second that a consumer sees."""
    batches = pipeline.make_batches(data, seed=0)
    for _ in range(10):
        next(batches)  # starts the processes and fills the buffers
    num_batches = max(num_clips // SETTINGS['batch_size'], 10)
    start = time.perf_counter()
    for _ in range(num_batches):
        next(batches)
    rate = num_batches * SETTINGS['batch_size'] / (time.perf_counter() - start)
    batches.close()
    return rate


def mean_bytes(sequences):
    """Mean size of the image files."""
    return statistics.mean(path.stat().st_size for s in sequences for path in s.frames)


def peak_mb():
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def print_table(figures):
    """Prints the figures for people."""
    data = figures['data']
    print(f'{data["frames"]} frames of {data["size"]}, {data["jpeg_kilobytes"]} kB each')
    print('\nCPU ms per frame, one thread')
    for name, value in figures['cpu_ms_per_frame'].items():
        print(f'  {name:24s} {value:8.3f}')
    clip = figures['cpu_ms_per_clip']
    print(f'\nCPU ms per clip of {LENGTH} frames, one thread')
    print(f'  {"floor: plain decoding":24s} {clip["floor"]:8.2f}')
    print(f'  {"loader, all stages":24s} {clip["loader"]:8.2f}')
    print(f'  {"ratio":24s} {figures["loader_to_floor"]:8.2f}')
    memory = figures['memory_mb']
    print(f'\nlargest memory {memory["after a tenth"]} MB after a tenth of the clips, ', end='')
    print(f'{memory["at the end"]} MB at the end')
    print('\nworkers  clips/s  clips/s per worker  JPEG MB/s per worker')
    for count, row in figures['workers'].items():
        print(
            f'{count:7d} {row["clips_per_s"]:8.1f} {row["clips_per_s_per_worker"]:19.1f} '
            f'{row["jpeg_mb_per_s_per_worker"]:21.1f}'
        )


if __name__ == '__main__':
    flags.DEFINE_string('data', None, 'Folder of a data set in the DAVIS layout.')
    flags.DEFINE_string('split', 'train', 'Its list.')
    flags.DEFINE_integer('clips', 400, 'Clips to time.', lower_bound=40)
    flags.DEFINE_list('workers', ['0', '1', '2'], 'Numbers of processes; 0: threads.')
    flags.DEFINE_string('json', None, 'File for the figures.')
    run_main(main)
