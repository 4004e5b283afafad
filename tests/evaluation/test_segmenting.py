"""Reading ahead, writing behind, and sequences that end in an error."""

import threading

import numpy as np
import pytest
from PIL import Image

from vos_jax.data import masks
from vos_jax.errors import InputError
from vos_jax.evaluation import protocols
from vos_jax.evaluation.ledger import Ledger
from vos_jax.evaluation.segmenting import frames_of, grouped, segment_all, segment_together
from vos_jax.inference.runner import Lane, drive
from vos_jax.storage import checksum


class CopyFirst:
    """The baseline that repeats the masks it was given; it needs no weights."""

    def start(self, frame, given, *, num_objects):
        self.labels = given
        return self.labels

    def step(self, frame):
        return self.labels

    def add_objects(self, given):
        self.labels = np.where(given > 0, given, self.labels)
        return self.labels


@pytest.fixture
def tasks(make_davis, draw):
    root = make_davis({'dog': draw(7, ids=(1, 2)), 'owl': draw(6), 'eel': draw(5)})
    return protocols.load('davis2017', root).tasks


def num_threads():
    return sum(thread.name in ('read ahead', 'write behind') for thread in threading.enumerate())


def test_masks_lie_on_the_disk_with_their_checksums(tasks, tmp_path, draw):
    ((timing, checksums),) = segment_together(Lane([CopyFirst()]), tasks[:1], [tmp_path])
    assert timing.frames == 7
    assert sorted(checksums) == [f'{t:05d}' for t in range(7)]
    for stem, value in checksums.items():
        path = tmp_path / f'{stem}.png'
        assert checksum.of_file(path) == value
        np.testing.assert_array_equal(masks.read_labels(path), draw(1, ids=(1, 2))[0])


def test_nothing_is_written_before_the_first_given_mask(make_youtube, draw, tmp_path):
    root = make_youtube({'a': (draw(6, ids=(2, 5)), {5: 1, 2: 3})})
    (task,) = protocols.load('youtube_vos2018', root).tasks
    segment_together(Lane([CopyFirst()]), [task], [tmp_path / 'out'])
    written = (tmp_path / 'out').iterdir()
    shown = {path.stem: set(np.unique(masks.read_labels(path))) for path in written}
    assert shown == {
        '00005': {0, 5},
        '00010': {0, 5},
        '00015': {0, 2, 5},
        '00020': {0, 2, 5},
        '00025': {0, 2, 5},
    }


def test_frames_after_the_last_required_one_are_not_read(make_youtube, draw):
    root = make_youtube({'a': (draw(6), {1: 0})})
    meta = root / 'valid/meta.json'
    meta.write_text(meta.read_text().replace(', "00020", "00025"', ''))
    (task,) = protocols.load('youtube_vos2018', root).tasks
    assert [stem for _, stem, _ in frames_of(task)] == ['00000', '00005', '00010', '00015']


def test_a_broken_frame_ends_the_sequence_by_name(tasks, tmp_path):
    path = tasks[0].sequence.frames[3]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r'dog/00003\.jpg'):
        segment_together(Lane([CopyFirst()]), tasks[:1], [tmp_path])
    assert num_threads() == 0


def test_leaving_early_ends_the_reader(tasks):
    segmenter = CopyFirst()

    def advance(item):
        labels = segmenter.start(item[-1], tasks[0].read_given('00000'), num_objects=2)
        return lambda: labels

    frames = drive(frames_of(tasks[0]), advance, lambda item, labels: None)
    next(frames)
    assert num_threads() == 2
    frames.close()
    assert num_threads() == 0


def test_a_mask_that_cannot_be_written_is_raised(tasks, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        segment_together(Lane([CopyFirst()]), tasks[:1], [tmp_path / 'file'])


def test_files_of_a_killed_writer_are_removed(tasks, tmp_path):
    folder = tmp_path / 'masks'
    folder.mkdir()
    (folder / '.00001.png.123.tmp').write_bytes(b'half')
    segment_together(Lane([CopyFirst()]), tasks[:1], [folder])
    assert {path.name for path in folder.iterdir()} == {f'{t:05d}.png' for t in range(7)}


def test_a_failure_keeps_the_sequences_that_were_finished(tasks, tmp_path):
    ledger = Ledger(tmp_path)
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'masks/eel').write_text('')  # the shortest sequence comes last
    with pytest.raises(OSError, match='eel'):
        list(segment_all([Lane([CopyFirst()])], tasks, ledger))
    done = [task.name for task in tasks if ledger.read(task) is not None]
    assert done == ['dog', 'owl']


def test_several_lanes_give_what_one_gives(tasks, tmp_path):
    results = []
    for count in (1, 3):
        lanes = [Lane([CopyFirst()]) for _ in range(count)]
        ledger = Ledger(tmp_path / str(count))
        records = segment_all(lanes, tasks, ledger)
        results.append({record.result.name: record for record in records})
    assert results[0].keys() == {'dog', 'owl', 'eel'}
    for name, record in results[0].items():
        assert record.checksums == results[1][name].checksums
        np.testing.assert_array_equal(record.result.scores.J, results[1][name].result.scores.J)


def step_together(segmenters, frames):
    """Does so, and notes how many there were."""
    step_together.counts.append(len(segmenters))
    return [one.step(frame) for one, frame in zip(segmenters, frames, strict=True)]


def test_sequences_of_one_size_are_segmented_together(make_davis, draw, tmp_path):
    drawn = {'dog': draw(7, ids=(1, 2)), 'owl': draw(6), 'eel': draw(5)}
    tasks = protocols.load('davis2017', make_davis(drawn)).tasks
    assert [[task.name for task in group] for group in grouped(tasks, 1)] == [
        ['dog'],
        ['owl'],
        ['eel'],
    ]
    assert [[task.name for task in group] for group in grouped(tasks, 2)] == [
        ['dog'],
        ['owl', 'eel'],
    ]
    step_together.counts = []
    checksums = []
    for most in (1, 3):
        lane = Lane([CopyFirst() for _ in range(most)], step_together=step_together)
        records = segment_all([lane], tasks, Ledger(tmp_path / str(most)))
        checksums.append({record.result.name: record.checksums for record in records})
    assert checksums[0] == checksums[1]
    assert {name: len(found) for name, found in checksums[0].items()} == {
        'dog': 7,
        'owl': 6,
        'eel': 5,
    }
    # Frames 1 to 4 of all three, frame 5 of two; the rest alone.
    assert step_together.counts == [3, 3, 3, 3, 2]


def test_a_record_is_of_the_masks_that_are_there(tasks, tmp_path):
    ledger = Ledger(tmp_path)
    list(segment_all([Lane([CopyFirst()])], tasks, ledger))
    assert ledger.read(tasks[0]) is not None
    labels = np.array(Image.open(tmp_path / 'masks/dog/00004.png'))
    labels[0, 0] = 1
    masks.write_labels(tmp_path / 'masks/dog/00004.png', labels)
    assert ledger.read(tasks[0]) is None
    (tmp_path / 'finished/owl.json').write_text('{"result":')
    assert ledger.read(tasks[1]) is None


def test_progress_shows_sequence_rate_and_remaining_time(tasks, tmp_path, capsys):
    list(segment_all([Lane([CopyFirst()])], tasks, Ledger(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith('[1/3] dog: J&F ')
    assert 'FPS' in lines[2]
    assert lines[2].endswith('ETA 0 s')
