"""Training batches: a batch is a function of (settings, seed, step), nothing else.

The position of a run is the number of its step. There is no iterator state to save: a resumed run
asks for the batches from that step on, with any number of workers.
"""

import contextlib
import gc
import itertools
import os
import signal
import weakref

import cv2
import numpy as np
from absl import logging

from vos_jax.config.schema import value_at
from vos_jax.data import augment, clips
from vos_jax.data.cache import Reader, scratch
from vos_jax.data.mixture import Sources, list_usable
from vos_jax.errors import InputError
from vos_jax.storage.overlap import end_with
from vos_jax.storage.palette import VOID

_DRAWS = 10  # of a clip, until its first frame shows an object
_ENDLESS = 2**40


def make_batches(data, *, seed, start_step=0, process_index=0, process_count=1):
    """Gives the batches of one process, from `start_step` on, without end.

    The batches of all processes, joined in the order of the processes, are those of a single one.

    Args:
      data: DataSpec, `config.data`.
      seed: int, 0 or more.
      start_step: first step.
      process_index: number of this process.
      process_count: number of processes; divides `data.batch_size`.

    Returns:
      Iterator of dict(frames=u8[B, T, H, W, 3], labels=u8[B, T, H, W], objects=bool[B, K]), B being
      the clips of this process. Labels are s + 1 for slot s, 0 for background, 255 for void. With
      `data.warp` 'device' what `training.step.warped` makes that of.
    """
    # Here, not at the top: Grain loads jax where it finds it; nothing else in this package does.
    import grain

    maker = BatchMaker(data, seed, process_index, process_count)
    steps = grain.MapDataset.range(start_step, _ENDLESS).map(maker)
    reading = grain.ReadOptions(num_threads=data.num_threads, prefetch_buffer_size=data.prefetch)
    batches = steps.to_iter_dataset(reading)
    if data.num_workers:
        workers = grain.MultiprocessingOptions(
            num_workers=data.num_workers, per_worker_buffer_size=2
        )
        batches = batches.mp_prefetch(workers, worker_init_fn=_outlive_signals)
    return Batches(iter(batches), maker.listing)


def _outlive_signals(*_):
    """Ctrl-C, and what ends a job, reach worker processes as well, which must go on making batches
    until the process of the run has noted it; they end with that one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with(os.getppid())


class Batches:
    """Iterator of Grain's batches; closed, or left to itself, it ends its threads and processes.

    `listing`: function that gives what the data sets hold, see `mixture.Sources`.
    """

    def __init__(self, iterator, listing):
        self.listing = listing
        # At exit this runs while Python still works; Grain's own `__del__` comes too late for that
        # and prints a traceback for each array in its buffers.
        self._held = [iterator]
        self.close = weakref.finalize(self, _close, self._held)

    def __iter__(self):
        return self

    def __next__(self):
        # Batches of processes come in shared memory: whoever holds one at the end of the program
        # would leak it. A copy takes about a hundredth of the time of making the batch.
        batch = next(self._held[0])
        return {k: v if type(v) is np.ndarray else np.array(v) for k, v in batch.items()}


def _close(held):
    held.pop().close()
    gc.collect()  # the rest of its buffers, which lie in reference cycles


class BatchMaker:
    """Makes the batch of a step; arguments as of `make_batches`.

    All that is random follows from (seed, number of the element).
    """

    def __init__(self, settings, seed, process_index=0, process_count=1):
        if settings.batch_size % process_count:
            raise InputError(
                f"'data.batch_size' is {settings.batch_size}; it must be a multiple of the "
                f'{process_count} processes'
            )
        self._settings = settings
        self._seed = seed
        self._local_size = settings.batch_size // process_count
        self._offset = process_index * self._local_size
        self._sources = Sources(
            settings.sources,
            seed,
            batch_size=settings.batch_size,
            skip_broken=settings.skip_broken,
            stage=settings.stage,
        )
        self.listing = self._sources.listing
        self._forms = forms_of(settings, self._sources.sequences)
        self._reader = Reader(settings.cache_mb)
        self._broken, self._slots = set(), {}
        self._shown = {}
        self._has_told = False

    def __call__(self, step):
        """Batch of a step, as in `make_batches`."""
        # OpenCV's own threads would fight with those of the pipeline and of the training step.
        cv2.setNumThreads(1)
        batch = {
            name: np.empty((self._local_size, *shape), kind)
            for name, (shape, kind) in self._forms.items()
        }
        for slot, element in enumerate(self._elements(int(step))):
            clip = {name: array[slot] for name, array in batch.items()}
            ids = self._fill(element, clip)
            if self._settings.slot_window > 1:  # the first slots, for a step that has no more
                ids = ids[np.argsort(ids == 0, kind='stable')]
            clip['objects'][:] = ids > 0
            if 'ids' in clip:  # the device looks the slots up
                clip['ids'][:] = ids
            else:
                clips.to_slots(clip['labels'], ids, out=clip['labels'])
        return batch

    def names(self, step):
        """'SOURCE/SEQUENCE' of each clip in the batch of a step; a broken video is one that was
        replaced."""
        places = map(self._sources.locate, self._elements(int(step)))
        return [
            f'{self._sources.names[source]}/{self._sources.sequences[source][video].name}'
            for source, _, video in places
        ]

    def _elements(self, step):
        """Numbers of the elements of this process in the batch of a step, as ints.

        Those of a window are dealt to its batches by the slots that their videos ask for, in an
        order of batches that follows from the seed: most batches then need few slots.
        """
        size, window = self._settings.batch_size, self._settings.slot_window
        number, place = divmod(step, window)
        elements = np.arange(number * window * size, (number + 1) * window * size)
        if window > 1:
            elements = elements[np.argsort([*map(self._slots_of, elements)], kind='stable')]
            place = np.random.default_rng([self._seed, 2, number]).permutation(window)[place]
        first = place * size + self._offset
        return elements[first : first + self._local_size].tolist()

    def _slots_of(self, element):
        """Slots for the objects of a video's first frame; pasted ones may ask for more."""
        source, _, video = self._sources.locate(int(element))
        if (source, video) not in self._slots:
            sequence, count = self._sources.sequences[source][video], 0
            with contextlib.suppress(InputError):  # broken: found where a clip is made of it
                first = sequence.read_labels(sequence.stems[0])
                count = np.count_nonzero(clips.count_pixels(first))
            ladder = self._settings.slot_ladder
            self._slots[source, video] = np.searchsorted(ladder[:-1], count)
        return self._slots[source, video]

    def _fill(self, index, clip):
        """Draws element `index` into the arrays of a clip, ids as labels; the id in each slot."""
        rng = np.random.default_rng([self._seed, 1, index])
        source, _, video = self._sources.locate(index)
        sequence = self._sources.sequences[source][video]
        for _ in range(_DRAWS):
            try:
                return self._fill_from(rng, source, sequence, index, clip)
            except InputError as error:
                if not self._settings.skip_broken:
                    raise
                self._note_broken(sequence, error)
                source, sequence = self._sources.draw(rng, index)
        raise InputError(f'{_DRAWS} videos in a row are broken; the last is {sequence.name}')

    def _fill_from(self, rng, source, sequence, index, clip):
        settings = self._settings
        shown = clip['labels'][0] if 'labels' in clip else scratch('shown', settings.crop)
        gap = value_at(settings.gap, index // settings.batch_size)
        for attempt in range(_DRAWS):
            indices, first = self._draw_clip(rng, source, sequence, gap, attempt)
            matrices = self._draw_matrices(rng, source, sequence.size, first, attempt)
            # The first mask decides, before any frame is read.
            augment.warp_labels(first, matrices[0], out=shown)
            if not self._is_enough(shown, attempt):
                continue
            if 'labels' in clip:
                self._warp(sequence, indices, matrices, clip['frames'], clip['labels'])
            else:
                clip['matrices'][:], clip['sizes'][:] = matrices, sequence.size
                self._place(sequence, indices, first, clip['pixels'])
            pasting = settings.sources[source].paste or settings.paste
            for _ in range(pasting.objects):
                if rng.random() < pasting.probability:
                    self._paste(rng, index, pasting, clip['frames'], clip['labels'])
            ids, left_out = clips.choose_objects(
                rng, shown, settings.num_slots, settings.min_pixels
            )
            if left_out:
                self._note_left_out(sequence, left_out)
            if ids.any():
                if 'frames' in clip:
                    self._change_colours(rng, source, clip['frames'])
                return ids
        raise InputError(
            f'{sequence.masks[sequence.stems[0]].parent}: no object of {settings.min_pixels} '
            f'pixels in {_DRAWS} clips of {sequence.name}; take it off the list or lower '
            'data.min_pixels'
        )

    def _draw_clip(self, rng, source, sequence, gap, attempt):
        """Draws frames of which the first shows an object, if any of the video does.

        A clip is drawn anew only where it does not, so that videos without hidden objects give the
        same clips as ever; the masks of the others are all looked at, once.

        Returns:
          (int[T], indices of the frames; u8[H, W], the ids in the first.)
        """
        # Any object will do; in later attempts it must be as large as one that counts.
        least = 1 if attempt < _DRAWS // 2 else max(self._settings.min_pixels, 1)
        indices = self._draw_frames(rng, source, sequence, gap)
        first = self._reader.labels(sequence, indices[0])
        if _largest(first, least) >= least:
            return indices, first
        pixels = self._largest_objects(sequence)
        if pixels.any():
            shown = pixels >= min(least, pixels.max())
            indices = self._draw_frames(rng, source, sequence, gap, shown)
        return indices, self._reader.labels(sequence, indices[0])

    def _draw_frames(self, rng, source, sequence, gap, shown=None):
        max_gap = max(1, gap // self._sources.strides[source])
        settings = self._settings
        how = (settings.clip_length, max_gap, settings.reverse, settings.reference)
        if shown is not None:
            return clips.draw_frames_from(rng, shown, *how)
        return clips.draw_frames(rng, sequence.num_frames, *how)

    def _largest_objects(self, sequence):
        """Pixels of the largest object in each frame of a video: int[N]."""
        key = sequence.masks[sequence.stems[0]]
        if key not in self._shown:
            counts = [
                _largest(self._reader.labels(sequence, index))
                for index in range(len(sequence.stems))
            ]
            self._shown[key] = np.array(counts)
        return self._shown[key]

    def _draw_matrices(self, rng, source, size, first, attempt):
        """Draws the warps of a clip; later attempts aim the crop at an object of the first mask."""
        settings = self._settings
        target = _draw_object_pixel(rng, first) if attempt >= _DRAWS // 2 else None
        linear = augment.draw_linear(rng, settings, size)
        centre = augment.draw_centre(rng, linear, size, settings.crop, target)
        return self._compose(rng, source, linear, centre)

    def _compose(self, rng, source, linear, centre):
        settings = self._settings
        jitter = settings.sources[source].jitter or settings.jitter
        return augment.draw_matrices(
            rng, settings.crop, jitter, linear, centre, settings.clip_length
        )

    def _is_enough(self, labels, attempt):
        """Whether the crop of the first mask shows enough to train on."""
        settings = self._settings
        counts = clips.count_pixels(labels)
        if attempt < settings.balanced_tries and counts.sum() < settings.balanced_pixels:
            return False
        return counts.max() >= max(settings.min_pixels, 1)

    def _place(self, sequence, indices, mask, pixels):
        """Decodes a clip, whose first mask is known, for a warp on the device."""
        height, width = sequence.size
        pixels = pixels.view(np.uint8).reshape(*pixels.shape, 4)
        pixels[:, height:] = pixels[:, :height, width:] = 0
        for t, index in enumerate(indices):
            place = pixels[t, :height, :width]
            if t and index == indices[t - 1]:  # a still image is all frames of its clip
                place[:] = pixels[t - 1, :height, :width]
                continue
            frame = self._reader.frame(sequence, index, place if place.data.c_contiguous else None)
            if not np.may_share_memory(frame, place):
                place[:] = frame
            mask = self._reader.labels(sequence, index) if t else mask
            cv2.insertChannel(mask, place, 3)

    def _warp(self, sequence, indices, matrices, frames, labels):
        """Warps all of a clip but the first mask, which is there already."""
        last = frame = mask = None
        for t, index in enumerate(indices):
            if index != last:  # a still image is all frames of its clip
                frame, last = self._reader.frame(sequence, index), index
                mask = None
            augment.warp_frame(frame, matrices[t], out=frames[t])
            if t:
                mask = self._reader.labels(sequence, index) if mask is None else mask
                augment.warp_labels(mask, matrices[t], out=labels[t])

    def _change_colours(self, rng, source, frames):
        settings, own = self._settings, self._settings.sources[source]
        augment.change_colours(rng, frames, own.colour or settings.colour)
        for frame in frames:
            augment.change_colours(rng, frame[None], own.frame_colour or settings.frame_colour)

    def _paste(self, rng, index, pasting, frames, labels):
        """Pastes one object of any other clip, its middle at a random place of the first frame."""
        settings = self._settings
        gap = value_at(settings.gap, index // settings.batch_size)
        source, donor = self._sources.draw(rng, index)
        indices = self._draw_frames(rng, source, donor, gap)
        first = self._reader.labels(donor, indices[0])
        candidates = np.flatnonzero(clips.count_pixels(first) >= max(settings.min_pixels, 1))
        if not len(candidates):
            return
        chosen = rng.choice(candidates)
        middle = np.argwhere(first == chosen).mean(axis=0)[::-1]
        place = rng.uniform(-0.5, 0.5, size=2) * np.array(settings.crop)[::-1]
        linear = augment.draw_linear(rng, settings, donor.size, pasting.scale)
        matrices = self._compose(rng, source, linear, middle - linear @ place)
        behind = rng.random() < pasting.behind
        donor_frames, donor_masks = np.empty_like(frames), np.empty_like(labels)
        for t, index in enumerate(indices):
            augment.warp_frame(self._reader.frame(donor, index), matrices[t], out=donor_frames[t])
            mask = (self._reader.labels(donor, index) == chosen).astype(np.uint8)
            augment.warp_labels(mask, matrices[t], out=donor_masks[t], mirror=False)
        new_id, shown = augment.free_id(labels), donor_masks.astype(bool)
        augment.paste_object(frames, labels, donor_frames, shown, new_id, behind=behind)

    def _note_broken(self, sequence, error):
        mask = sequence.masks[sequence.stems[0]]
        if mask not in self._broken:
            self._broken.add(mask)
            logging.warning('skipped a video, %d so far: %s', len(self._broken), error)

    def _note_left_out(self, sequence, count):
        if not self._has_told:
            self._has_told = True
            logging.warning(
                '%s shows %d objects, data.num_slots is %d; the most visible are kept (said once)',
                sequence.name,
                count + self._settings.num_slots,
                self._settings.num_slots,
            )


def forms_of(data, sequences=None):
    """Shape without clips, and type, of each array of a batch by its name.

    Args:
      data: DataSpec.
      sequences: those of its sources, if they are listed already; with `data.warp` 'device' the
        frames have the largest height and width of all videos.
    """
    length, objects = data.clip_length, ((data.num_slots,), bool)
    if data.warp == 'host':
        frames, labels = (length, *data.crop, 3), (length, *data.crop)
        return {'frames': (frames, np.uint8), 'labels': (labels, np.uint8), 'objects': objects}
    if sequences is None:
        sequences = [list_usable(source, data.skip_broken, data.stage) for source in data.sources]
    sizes = [(1, 1)]
    for sequence in itertools.chain(*sequences):
        with contextlib.suppress(InputError):  # broken: found where a clip is made of it
            sizes.append(sequence.size)
    return {
        'pixels': ((length, *np.max(sizes, axis=0).tolist()), np.uint32),
        'matrices': ((length, 2, 3), np.float32),
        'sizes': ((2,), np.int32),
        'ids': ((data.num_slots,), np.uint8),
        'objects': objects,
    }


def _largest(labels, enough=None):
    """Pixels of the largest object; where a single one is `enough`, one is counted."""
    if enough == 1 and (top := int(labels.max())) < VOID:
        return min(top, 1)
    return int(clips.count_pixels(labels).max())


def _draw_object_pixel(rng, labels):
    """(x, y) of any pixel of any object, or None."""
    pixels = np.flatnonzero((labels > 0) & (labels < 255))
    if not len(pixels):
        return None
    y, x = divmod(int(rng.choice(pixels)), labels.shape[1])
    return x, y
