"""States of videos as files of NumPy, without pickled objects."""

from pathlib import Path

import numpy as np

from vos_jax.storage import checksum
from vos_jax.storage.damage import reading
from vos_jax.storage.npz_files import read_npz, write_npz


def write_state(path, state, *, entries_apart=False, **about):
    """Writes the plain arrays of a state; the file appears whole or not at all.

    Args:
      path: the file.
      state: dict of `Segmenter.state`: arrays by name, `previous`, a list of arrays, and `entries`,
        lists of arrays by frame number.
      entries_apart: whether entries get files of their own beside it, as a state that is written
        again and again wants: an entry never changes, so each is written once. Those that the state
        no longer has are removed last.
      about: plain values that `read_state` gives back.
    """
    path = Path(path)
    arrays = {name: state[name] for name in state if name not in ('entries', 'previous')}
    arrays |= {f'previous/{i:03d}': leaf for i, leaf in enumerate(state['previous'])}
    arrays |= {f'about/{name}': value for name, value in about.items()}
    arrays['times'], sums = np.array([*state['entries']], np.int64), []
    for time, leaves in state['entries'].items():
        named = {f'entries/{time}/{i:03d}': leaf for i, leaf in enumerate(leaves)}
        if not entries_apart:
            arrays |= named
            continue
        file = _entry_file(path, state['slots'], time)
        if not file.is_file():
            write_npz(file, named)
        sums.append(checksum.of_file(file))
    write_npz(path, arrays | {'sums': np.array(sums, np.uint32)})
    if entries_apart:
        wanted = {_entry_file(path, state['slots'], time) for time in state['entries']}
        for file in {*path.parent.glob('entry-*.npz')} - wanted:
            file.unlink()


def read_state(path, what, remedy):
    """The state that `write_state` wrote, for `Segmenter.restore`, and the plain values about it.

    Args:
      what: what the file should be, for the errors: 'a whole state of ...'.
      remedy: what to do instead.

    Raises:
      InputError: where the file is missing, or it or one of its entries is not whole.
    """
    path = Path(path)
    arrays = read_npz(path, what, remedy)
    with reading(path, what, remedy):
        times = arrays.pop('times').tolist()
        sums = dict(zip(times, arrays.pop('sums').tolist()))
        for time in times:
            if f'entries/{time}/000' not in arrays:
                file = _entry_file(path, arrays['slots'], time)
                arrays |= _read_entry(file, sums.get(time), what, remedy)
        entries = {time: _popped(arrays, f'entries/{time}/') for time in times}
        state = {'previous': _popped(arrays, 'previous/'), 'entries': entries}
        about = {name: arrays.pop(name).item() for name in [*arrays] if name.startswith('about/')}
    return {**state, **arrays}, {name.removeprefix('about/'): about[name] for name in about}


def _read_entry(path, wanted, what, remedy):
    with reading(path, what, remedy):
        if wanted != checksum.of_file(path):
            raise ValueError('not the one that was written with it')
    return read_npz(path, what, remedy)


def _popped(arrays, prefix):
    return [arrays.pop(name) for name in sorted(arrays) if name.startswith(prefix)]


def _entry_file(path, slots, time):
    return path.with_name(f'entry-{slots}-{time}.npz')
