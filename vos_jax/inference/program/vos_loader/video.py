"""The state of a video between two frames, and the functions that carry it on.

They know no model and no device: a `Program` brings the compiled steps. So a Segmenter and an
exported model run the same lines. Nothing is changed in place: each function gives a new state, and
the one before stays whole.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import selection

VOID = 255


class Masks(NamedTuple):
    """Masks of one frame: f32[1, K, H, W], f32[1, H, W] (any object), bool[1] (by a person)."""

    objects: Any
    foreground: Any
    given: Any


class Previous(NamedTuple):
    """The last frame, which enters the memory with the next one; on the device."""

    frame: Any  # u8[1, H, W, 3]
    features: Any  # its features, or None for a model that does not memorise them
    masks: Masks
    time: Any  # i32[1], its number


class Result(NamedTuple):
    """What a program finds in a frame, on the device."""

    labels: Any  # u8[H, W], ids
    probabilities: Any  # f32[1, K + 1, H, W]
    masks: Masks
    features: Any  # as of Previous
    entry: Any  # memory entry of the frame before
    time: Any  # i32[1], number of the frame


class Memory(NamedTuple):
    """What the next frame reads."""

    entries: tuple  # of one frame each; empty ones fill them up
    position: int  # index of the entry into which the last frame goes
    is_read: bool  # whether the last frame is read at once


class Program(Protocol):
    """The compiled steps of a model with its weights, on a device."""

    memory: Any  # selection.Settings, or the like

    def slots_for(self, num_objects: int) -> int:
        """Object slots compiled for this many objects."""
        ...

    def num_entries(self, num_frames: int) -> int:
        """Memory entries compiled for this many frames."""
        ...

    def put(self, arrays):
        """Arrays of NumPy on the device."""

    def fetch(self, arrays):
        """Arrays of the device as NumPy's, once they are computed."""

    def encode(self, frame):
        """Features of u8[1, H, W, 3], or None."""

    def advance(self, state: 'VideoState', memory: Memory, frame) -> Result:
        """Memorises the last frame and segments the next one, u8[1, H, W, 3]."""
        ...

    def memorise(self, state: 'VideoState'):
        """Memory entry of the last frame."""

    def empty(self, state: 'VideoState'):
        """A memory entry that nothing is read from."""

    def widen(self, entry, slots: int):
        """The entry for more slots."""


@dataclasses.dataclass(frozen=True)
class VideoState:
    """All that the next frame depends on."""

    time: int  # number of the last frame
    slots: int  # K, object slots
    ids: tuple[int, ...]  # of the objects known so far, in the order of their slots
    given: tuple[int, ...]  # rising numbers of the frames whose masks a person gave
    labels: Any  # u8[H, W] ids of the last frame, maybe still on the device
    previous: Previous
    entries: Mapping[int, Any]  # memory entries by frame number, rising; an entry never changes


def ids_of(masks):
    """Ids in masks, rising, without background and void."""
    return tuple(int(number) for number in np.unique(masks) if number not in (0, VOID))


def begin(program, frame, masks, num_objects=0):
    """The state after the first frame.

    Args:
      program: Program.
      frame: u8[H, W, 3], RGB; not changed by anybody afterwards.
      masks: u8[H, W] ids with an object; 255 belongs to no object.
      num_objects: objects that the video will have, where that is known.
    """
    slots = program.slots_for(max(len(ids_of(masks)), num_objects))
    empty = Masks(
        np.zeros((1, slots, *masks.shape), np.float32),
        np.zeros((1, *masks.shape), np.float32),
        np.zeros(1, bool),
    )
    previous = _seen(program, frame, empty, 0)
    state = VideoState(0, slots, (), (), np.zeros(masks.shape, np.uint8), previous, {})
    return give(program, state, masks, masks != VOID)


def advance(program, state, frame):
    """Segments the next frame.

    Args:
      program, frame: as for `begin`.
      state: VideoState.

    Returns:
      The state after it, and f32[1, K + 1, H, W] probabilities; the device may still be at work.
    """
    frame = program.put(frame[None])
    result = program.advance(state, _memory_of(program, state), frame)
    return _taken(program, state, frame, result), result.probabilities


def advance_together(program, states, frames):
    """`advance` for several videos: those of one size, with as many slots, in one program.

    Each program is filled up to the next power of two, so that few are compiled.

    Args:
      program: Program that has `advance_together`.
      states: VideoStates.
      frames: u8[H, W, 3], one for each.

    Returns:
      List of the states after them.
    """
    frames = [program.put(frame[None]) for frame in frames]
    memories = [_memory_of(program, state) for state in states]
    groups = {}
    for index, (state, frame) in enumerate(zip(states, frames)):
        shapes = (frame.shape, state.slots, len(memories[index].entries))
        groups.setdefault(shapes, []).append(index)
    after = list(states)
    for members in groups.values():
        filled = members + members[-1:] * ((1 << (len(members) - 1).bit_length()) - len(members))
        arguments = ([group[i] for i in filled] for group in (states, memories, frames))
        for index, result in zip(members, program.advance_together(*arguments)):
            after[index] = _taken(program, states[index], frames[index], result)
    return after


def _memory_of(program, state):
    """Memory that the frame after a state reads."""
    last = state.time
    chosen = selection.select(program.memory, [*state.entries, last], last + 1, state.given)
    old = [time for time in chosen if time != last]
    num_empty = program.num_entries(len(old) + 1) - len(old)
    entries = [state.entries[time] for time in old] + [program.empty(state)] * num_empty
    return Memory(tuple(entries), len(old), last in chosen)


def _taken(program, state, frame, result):
    """The state after a frame, u8[1, H, W, 3] on the device, in which a program found `result`."""
    return dataclasses.replace(
        state,
        time=state.time + 1,
        labels=result.labels,
        previous=Previous(frame, result.features, result.masks, result.time),
        entries=_remembered(program, state, result.entry),
    )


def give(program, state, masks, is_given, by_person=True):
    """Writes masks over the result of the last frame.

    Args:
      program, state: as for `advance`.
      masks: u8[H, W] ids; new ones become new objects.
      is_given: bool[H, W], where masks replace the result.
      by_person: whether the frame counts as one whose masks a person gave.
    """
    ids = state.ids + tuple(number for number in ids_of(masks) if number not in state.ids)
    state = _widened(program, state, program.slots_for(len(ids)))
    before, labels = program.fetch((state.previous.masks, state.labels))
    objects, foreground = np.array(before.objects), np.array(before.foreground)
    for slot, number in enumerate(ids):
        objects[0, slot] = np.where(is_given, masks == number, objects[0, slot])
    foreground[0] = np.where(is_given, masks > 0, foreground[0])
    merged = program.put(Masks(objects, foreground, np.full(1, by_person, bool)))
    return dataclasses.replace(
        state,
        ids=ids,
        given=tuple(sorted({*state.given, state.time})) if by_person else state.given,
        labels=np.where(is_given, masks, labels).astype(np.uint8),
        previous=state.previous._replace(masks=merged),
    )


def observe(program, state, frame, masks, after=1, by_person=True):
    """Takes a later frame whose masks are known: it is remembered, nothing is segmented.

    Args:
      program, state, frame: as for `advance`.
      masks: u8[H, W] ids; 0 and 255 are background.
      after: how many frames it comes after the last one.
      by_person: as for `give`.
    """
    entries = _remembered(program, state, program.memorise(state))
    time = state.time + after
    previous = _seen(program, frame, state.previous.masks, time)
    state = dataclasses.replace(state, time=time, previous=previous, entries=entries)
    known = np.where(masks == VOID, 0, masks).astype(np.uint8)
    return give(program, state, known, np.ones(masks.shape, bool), by_person)


def probabilities(program, state):
    """f32[n + 1, H, W] of the last frame, masks given for it included: background, then `ids`."""
    objects = program.fetch(state.previous.masks.objects)[0, : len(state.ids)]
    return np.concatenate([1.0 - objects.sum(axis=0, keepdims=True), objects])


def _seen(program, frame, masks, time):
    frame, time = program.put((frame[None], np.full(1, time, np.int32)))
    return Previous(frame, program.encode(frame), masks, time)


def _remembered(program, state, entry):
    """Entries with that of the last frame, as many as the settings keep."""
    entries = {**state.entries, state.time: entry}
    kept = selection.keep(program.memory, [*entries], state.given)
    return {time: entries[time] for time in kept}


def _widened(program, state, slots):
    if slots <= state.slots:
        return state
    missing = slots - state.slots
    masks = state.previous.masks
    objects = program.fetch(masks.objects)
    objects = program.put(np.pad(objects, ((0, 0), (0, missing), (0, 0), (0, 0))))
    return dataclasses.replace(
        state,
        slots=slots,
        previous=state.previous._replace(masks=masks._replace(objects=objects)),
        entries={time: program.widen(entry, slots) for time, entry in state.entries.items()},
    )
