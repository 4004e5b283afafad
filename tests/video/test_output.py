"""The folder of results: one run's, and never somebody else's."""

import numpy as np
import pytest

from tests.video import samples
from vos_jax.errors import InputError
from vos_jax.storage.npz_files import write_npz
from vos_jax.video.folder import Output

RUN = {'video': 'a.mp4', 'size': (50, 66), 'masks': {'0': '12ab'}}


def make_state(times=(0, 1, 2), slots=3):
    entries = {time: [np.full((2, 3), time, np.float32), np.array([time])] for time in times}
    previous = [np.full(2, index, np.uint8) for index in range(12)]
    return {'time': times[-1], 'slots': slots, 'previous': previous, 'entries': entries}


@pytest.fixture
def used(tmp_path):
    """A folder with a mask and its state, an overlay and a summary of `RUN`."""
    output = Output(tmp_path / 'out', RUN)
    output.write_mask('00000', samples.first_mask())
    output.overlay.write_bytes(b'a movie')
    output.write_summary({'damage': None})
    output.save_state(0, make_state())
    return output.folder


def resumed(folder):
    """The run as it comes back to its folder."""
    output = Output(folder, RUN)
    output.load_state()
    return output


def test_the_same_run_finds_its_results(used):
    output = resumed(used)
    assert output.read_summary()['damage'] is None
    np.testing.assert_array_equal(output.read_mask('00000', samples.SIZE), samples.first_mask())


@pytest.mark.parametrize('change', [{'size': (25, 33)}, {'masks': {'0': 'ff'}}, {'stride': 2}])
def test_another_run_is_refused_by_the_setting_that_differs(used, change):
    before = sorted(used.rglob('*'))
    with pytest.raises(InputError, match=rf"another run \('{next(iter(change))}' is"):
        Output(used, RUN | change)
    assert sorted(used.rglob('*')) == before


def test_overwriting_removes_the_results_and_nothing_else(used):
    (used / 'notes.txt').write_text('mine')
    output = Output(used, RUN | {'stride': 2}, overwrite=True)
    assert output.read_summary() is None
    assert sorted(path.name for path in used.iterdir()) == ['notes.txt', 'run.json']


def test_a_folder_with_other_files_is_refused_even_to_be_overwritten(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(InputError, match='holds something else'):
        Output(tmp_path, RUN, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    output, state = Output(tmp_path, RUN), make_state()
    assert output.load_state() is None
    output.save_state(7, state)
    number, found = output.load_state()
    assert (number, found['time'], found['slots']) == (7, 2, 3)
    for mine, its in zip(found['previous'], state['previous'], strict=True):
        np.testing.assert_array_equal(mine, its)
    assert list(found['entries']) == [0, 1, 2]
    for time, leaves in state['entries'].items():
        for mine, its in zip(found['entries'][time], leaves, strict=True):
            np.testing.assert_array_equal(mine, its)


def test_entries_are_written_once_and_dropped_with_the_memory(tmp_path):
    output = Output(tmp_path, RUN)
    output.save_state(2, make_state((0, 1, 2)))
    first = tmp_path / 'state' / 'entry-3-0.npz'
    written_ns = first.stat().st_mtime_ns
    output.save_state(4, make_state((0, 2, 4)))
    assert first.stat().st_mtime_ns == written_ns
    names = sorted(path.name for path in (tmp_path / 'state').iterdir())
    assert names == ['entry-3-0.npz', 'entry-3-2.npz', 'entry-3-4.npz', 'state.npz']
    assert list(output.load_state()[1]['entries']) == [0, 2, 4]


def test_a_damaged_state_is_refused(tmp_path):
    output = Output(tmp_path, RUN)
    output.save_state(2, make_state())
    path = tmp_path / 'state' / 'entry-3-1.npz'
    path.write_bytes(path.read_bytes()[:100])
    words = r'entry-3-1\.npz: not a whole state of this run .* --overwrite'
    with pytest.raises(InputError, match=words):
        output.load_state()


def test_an_entry_of_another_frame_is_refused(tmp_path):
    output = Output(tmp_path, RUN)
    output.save_state(2, make_state())
    (tmp_path / 'state' / 'entry-3-1.npz').replace(tmp_path / 'state' / 'entry-3-2.npz')
    with pytest.raises(InputError, match=r'entry-3-1\.npz: no such file.* --overwrite'):
        output.load_state()
    output.save_state(2, make_state())
    write_npz(tmp_path / 'state' / 'entry-3-2.npz', {'entries/2/000': np.zeros(1)})
    with pytest.raises(InputError, match=r'entry-3-2\.npz: .*not the one that was written'):
        output.load_state()


def test_the_state_of_another_run_is_refused(used, tmp_path):
    other = Output(tmp_path / 'other', RUN | {'stride': 2})
    other.save_state(0, make_state())
    (other.folder / 'state' / 'state.npz').replace(used / 'state' / 'state.npz')
    with pytest.raises(InputError, match='it is that of another one'):
        resumed(used)


def test_a_mask_that_was_changed_is_not_taken_over(used):
    output = resumed(used)
    samples.write_mask(output.mask('00000'), np.zeros(samples.SIZE, np.uint8))
    with pytest.raises(InputError, match='has been changed; start anew with --overwrite'):
        output.read_mask('00000', samples.SIZE)


def test_a_mask_that_was_removed_is_missed(used):
    output = resumed(used)
    output.mask('00000').unlink()
    with pytest.raises(InputError, match='has been removed; start anew with --overwrite'):
        output.read_mask('00000', samples.SIZE)


def test_half_written_files_of_a_killed_run_go_away(used):
    for left in (used / '.overlay.mp4.tmp', used / 'masks' / '.00001.png.1f.tmp'):
        left.write_bytes(b'half')
    Output(used, RUN)
    assert not list(used.rglob('.*'))
