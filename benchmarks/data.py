"""Times the loader: python -m benchmarks.data [--data=ROOT --split=val] [--json=FILE].

Clips of 4 frames, crop 740x384, flip, scaling, rotation, shear and jitter (pasting and colours are
off, as in the papers' configurations), warped by the loader or left to the device (`data.warp`).
The floor is plain decoding of the same JPEGs from memory into a fresh array each; it is timed
between the batches, so that other work on the machine weighs on both alike. Without --data a
procedural set of 854x480 is drawn first. --data may be in the layout of DAVIS or prepared, then on
gs:// too; --stage=DIR copies its shards there first. Of a prepared set the reads of frames and
masks are timed without decoding, by one thread and by 16.
"""

import concurrent.futures
import json
import statistics
import tempfile
import time

import cv2
import numpy as np
import simplejpeg
from absl import flags

from benchmarks import measuring
from vos_jax.config.read import read
from vos_jax.config.schema import DataSpec
from vos_jax.data import augment, layouts, pipeline, prepared, scenes
from vos_jax.errors import run_main

CROP = (384, 740)
LENGTH = 4
CACHE_MB = 1000  # holds the frames of a small set
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
        figures = measure(wanted.data, wanted.split, wanted.clips, wanted.workers, wanted.stage)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print('drawing 6 sequences of 8 frames, 854x480')
            scenes.write_dataset(folder, num_train=5, num_val=1, frames=8, size=(480, 854), seed=0)
            figures = measure(folder, 'train', wanted.clips, wanted.workers)
    print_table(figures)
    if wanted.json:
        with open(wanted.json, 'w') as file:
            json.dump(figures, file, indent=1)
        print(f'figures in {wanted.json}')


def measure(root, split, num_clips, worker_counts, stage=''):
    """All figures for one data set, as nested dicts."""
    is_prepared = prepared.is_prepared(root)
    kind = 'prepared' if is_prepared else 'davis'
    data = SETTINGS | {'sources': [{'root': str(root), 'split': split, 'kind': kind}]}
    start_s = time.perf_counter()
    if is_prepared:
        sequences = prepared.prepared(root, split, stage)
        data |= {'stage': stage}
    else:
        sequences = layouts.davis(root, split)
    listing_s = time.perf_counter() - start_s
    reads = time_reads(sequences) if is_prepared else {}
    jpegs = read_jpegs(sequences)
    stages = time_stages(sequences, jpegs, read(DataSpec, data, 'data'))
    floor_ms, loader_ms, memory = time_loader(data, jpegs, num_clips)
    bare_ms, decoding_ms, _ = time_loader(data | {'warp': 'device'}, jpegs, num_clips)
    _, cached_ms, _ = time_loader(data | {'cache_mb': CACHE_MB}, jpegs, num_clips)
    kilobytes = statistics.mean(map(len, jpegs)) / 1000
    figures = {
        'data': {
            'kind': kind,
            'frames': sum(sequence.num_frames for sequence in sequences),
            'size': f'{sequences[0].size[1]}x{sequences[0].size[0]}',
            'jpeg_kilobytes': round(kilobytes, 1),
        },
        'cpu_ms_per_frame': stages,
        'cpu_ms_per_clip': {
            'floor': floor_ms,
            'loader': loader_ms,
            'device': decoding_ms,
            'cached': cached_ms,
        },
        'loader_to_floor': loader_ms / floor_ms,
        'device_to_floor': decoding_ms / bare_ms,
        'cached_to_floor': cached_ms / floor_ms,
        'memory_mb': memory,
        'listing_s': listing_s,
        'reads': reads,
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


def time_reads(sequences, repeats=3):
    """Reads of frames and masks from shards, by the number of threads; the best of some runs."""
    parts = [part for one in sequences for part in (*one.frames, *one.masks.values())]
    num_bytes, found = sum(part.place[1] for part in parts), {}
    for count in (1, 16):
        times = []
        with concurrent.futures.ThreadPoolExecutor(count) as threads:
            for _ in range(repeats):
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                list(threads.map(lambda part: part.read_bytes(), parts))
                cpu_s = time.process_time() - start_cpu_s
                times.append((time.perf_counter() - start_s, cpu_s))
        wall_s, cpu_s = min(times)
        found[count] = {
            'reads_per_s': len(parts) / wall_s,
            'mb_per_s': num_bytes / wall_s / 1e6,
            'cpu_ms_per_read': 1000 * cpu_s / len(parts),
            'clips_per_s': len(parts) / wall_s / (2 * LENGTH),
        }
    return found


def read_jpegs(sequences):
    """Bytes of all frames."""
    return [frame.read_bytes() for sequence in sequences for frame in sequence.frames]


def decode(jpeg):
    """The floor."""
    return simplejpeg.decode_jpeg(jpeg, colorspace='RGB')


def time_stages(sequences, jpegs, settings, repeats=7):
    """CPU time of each stage by itself, in ms per frame."""
    cv2.setNumThreads(1)
    places = [(s, t) for s in sequences for t in range(s.num_frames)]
    frames = [s.read_frame(t, pad=True) for s, t in places[:8]]
    masks = [s.read_labels(s.stems[t]) for s, t in places[:8]]
    buffer, out = np.empty_like(frames[0]), np.empty((*CROP, 3), np.uint8)
    mask_out = np.empty(CROP, np.uint8)
    rng = np.random.default_rng(0)
    linear = augment.draw_linear(rng, settings, sequences[0].size)
    centre = augment.draw_centre(rng, linear, sequences[0].size, CROP)
    matrix = augment.draw_matrices(rng, CROP, settings.jitter, linear, centre, 1)[0]
    stages = {
        'floor: plain decoding': (decode, jpegs),
        'read and decode frame': (lambda p: p[0].read_frame(p[1], pad=True, buffer=buffer), places),
        'read mask': (lambda p: p[0].read_labels(p[0].stems[p[1]]), places),
        'warp frame': (lambda frame: augment.warp_frame(frame, matrix, out), frames * 6),
        'warp mask': (lambda mask: augment.warp_labels(mask, matrix, mask_out), masks * 6),
    }
    times = {name: [] for name in stages}
    for _ in range(repeats):
        for name, stage in stages.items():
            times[name].append(cpu_ms(*stage))
    return {name: statistics.median(values) for name, values in times.items()}


def cpu_ms(function, arguments):
    """Mean CPU time of a call, in ms."""
    start = time.process_time()
    for argument in arguments:
        function(argument)
    return (time.process_time() - start) / len(arguments) * 1000


def time_loader(data, jpegs, num_clips):
    """CPU ms per clip of floor and loader, in one thread, and the largest memory, early and late.

    The floor decodes as many JPEGs after each batch as the batch has frames.
    """
    maker = pipeline.BatchMaker(read(DataSpec, data, 'data'), seed=0)
    num_batches = max(num_clips // SETTINGS['batch_size'], 10)
    floor, loader, early = [], [], 0
    per_batch = SETTINGS['batch_size'] * LENGTH
    for step in range(num_batches):
        loader.append(cpu_ms(maker, [step]) / SETTINGS['batch_size'])
        places = range(step * per_batch, (step + 1) * per_batch)
        floor.append(LENGTH * cpu_ms(decode, [jpegs[i % len(jpegs)] for i in places]))
        if step == num_batches // 10:
            early = measuring.peak_memory()['peak_mb']
    memory = {'after a tenth': early, 'at the end': measuring.peak_memory()['peak_mb']}
    return statistics.median(floor), statistics.median(loader), memory


def time_workers(data, num_clips):
    """Clips per second that a consumer sees."""
    batches = pipeline.make_batches(read(DataSpec, data, 'data'), seed=0)
    for _ in range(10):
        next(batches)  # starts the processes and fills the buffers
    num_batches = max(num_clips // SETTINGS['batch_size'], 10)
    start = time.perf_counter()
    for _ in range(num_batches):
        next(batches)
    rate = num_batches * SETTINGS['batch_size'] / (time.perf_counter() - start)
    batches.close()
    return rate


def print_table(figures):
    """Prints the figures for people."""
    data = figures['data']
    size = f'{data["size"]}, {data["jpeg_kilobytes"]} kB each'
    print(f'{data["kind"]}: {data["frames"]} frames of {size}')
    print('\nCPU ms per frame, one thread')
    for name, value in figures['cpu_ms_per_frame'].items():
        print(f'  {name:24s} {value:8.3f}')
    clip = figures['cpu_ms_per_clip']
    print(f'\nCPU ms per clip of {LENGTH} frames, one thread')
    print(f'  {"floor: plain decoding":24s} {clip["floor"]:8.2f}')
    print(f'  {"loader, all stages":24s} {clip["loader"]:8.2f}')
    print(f'  {"warp on the device":24s} {clip["device"]:8.2f}')
    print(f'  {"from data.cache_mb":24s} {clip["cached"]:8.2f}')
    ratios = ' '.join(
        f'{figures[f"{name}_to_floor"]:8.2f}' for name in ('loader', 'device', 'cached')
    )
    print(f'  {"ratios":24s} {ratios}')
    memory = figures['memory_mb']
    print(f'\nlargest memory {memory["after a tenth"]:.0f} MB after a tenth of the clips, ', end='')
    print(f'{memory["at the end"]:.0f} MB at the end')
    for count, row in figures['reads'].items():
        print(
            f'reads by {count:2d} threads: {row["reads_per_s"]:.0f} a second, '
            f'{row["mb_per_s"]:.0f} MB/s, {row["cpu_ms_per_read"]:.2f} ms of CPU each; enough for '
            f'{row["clips_per_s"]:.0f} clips a second'
        )
    print(f'listed, and copied where that was asked for, in {figures["listing_s"]:.1f} s')
    print('\nworkers  clips/s  clips/s per worker  JPEG MB/s per worker')
    for count, row in figures['workers'].items():
        print(
            f'{count:7d} {row["clips_per_s"]:8.1f} {row["clips_per_s_per_worker"]:19.1f} '
            f'{row["jpeg_mb_per_s_per_worker"]:21.1f}'
        )


if __name__ == '__main__':
    flags.DEFINE_string('data', None, 'Folder of a data set in the DAVIS layout.')
    flags.DEFINE_string('split', 'train', 'Its list.')
    flags.DEFINE_string('stage', '', 'Local folder to which prepared shards are copied first.')
    flags.DEFINE_integer('clips', 400, 'Clips to time.', lower_bound=40)
    flags.DEFINE_list('workers', ['0', '1', '2'], 'Numbers of processes; 0: threads.')
    flags.DEFINE_string('json', None, 'File for the figures.')
    run_main(main)
