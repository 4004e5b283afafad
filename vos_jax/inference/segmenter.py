"""Segmenting a video frame by frame: the Python API, and what `evaluate.py` itself runs."""

import copy
import functools

import jax
import numpy as np

from vos_jax import weights
from vos_jax.config.schema import Config
from vos_jax.errors import InputError
from vos_jax.inference import steps, views
from vos_jax.inference.program.vos_loader import video
from vos_jax.inference.program.vos_loader.session import Session
from vos_jax.inference.state_files import read_state, write_state
from vos_jax.inference.steps import num_slots_for
from vos_jax.models import registry
from vos_jax.models.shapes import check_variables
from vos_jax.storage import checksum

__all__ = ['Segmenter', 'num_slots_for', 'step_together']


class Segmenter(Session):
    """Segments one video after the other, one frame at a time, in constant memory.

    `start`, `step`, `add_objects`, `correct` and `probabilities` are those of `Session`, which an
    exported model has too; wrong input is an InputError.

    >>> import numpy as np
    >>> segmenter = Segmenter.from_pretrained('giel_lite')  # doctest: +SKIP
    >>> labels = segmenter.start(first_frame, first_masks)  # doctest: +SKIP
    >>> labels = segmenter.step(next_frame)  # doctest: +SKIP
    """

    error = InputError

    def __init__(self, model, variables, *, memory=None, device=None, precision='auto'):
        """
        Args:
          model: module with the methods of `protocol`.
          variables: its variables.
          memory: MemorySpec; default: the paper's.
          device: jax.Device to run on; default: jax's.
          precision: of float32 products, as `config.precision`.
        """
        super().__init__(steps.Program(model, variables, memory, device, precision=precision))

    @classmethod
    def from_pretrained(cls, name, *, memory=None, device=None):
        """Loads weights of one file.

        Args:
          name: name of weights that come with the project ('giel_lite'), or path of a file that
            `weights.export_weights` wrote.
          memory, device: as for the constructor; default memory: that of the file's config.

        Raises:
          InputError: where there is no such file, or it holds something else.
        """
        loaded = weights.load_weights(weights.find(name))
        return cls.from_config(
            loaded.config, loaded.variables, memory=memory, device=device, where=str(name)
        )

    @classmethod
    def from_config(cls, config, variables, *, memory=None, device=None, where='the variables'):
        """Builds the model of a run's config around its variables.

        Args:
          config: Config; or a mapping for `registry.read_config`, of which `model`, `inference` and
            `precision` count.
          variables: variables of its model.
          memory, device: as for the constructor.
          where: what the variables were read from, for the message.

        Raises:
          InputError: for variables that are not those of the model.
        """
        if not isinstance(config, Config):
            config = registry.read_config(config)
        platform = device.platform if device else jax.default_backend()
        model = registry.build(config.model.resolved(platform))
        check_variables(model, variables, where)
        model = views.build(model, config.inference)
        memory = memory or config.inference.memory
        return cls(model, variables, memory=memory, device=device, precision=config.precision)

    def sibling(self, *, lazy=False):
        """A segmenter with the same model, weights and settings, for another video beside this.

        Args:
          lazy: whether its methods give results that may still be on the device, without waiting
            for them: `np.asarray` does. So the next frame can be handed over before.
        """
        other = copy.copy(self)
        other._state, other._is_lazy = None, lazy
        return other

    @property
    def model(self):
        return self.program.model

    @property
    def variables(self):
        return self.program.variables

    @property
    def memory(self):
        """MemorySpec."""
        return self.program.memory

    def segment(self, frames, masks, *, num_objects=None, probabilities=False):
        """Segments a video from its first frame to its last.

        Each result is handed out when the next frame has been taken: while the one is used, the
        device works on the other. A correction by `add_objects` or `correct` in between is heeded.

        Args:
          frames: iterable of u8[H, W, 3]; one at a time is taken.
          masks: u8[H, W] ids of the first frame, or a dict of such masks by index of their frame:
            those of later frames are written over its result, as by `add_objects`.
          num_objects: as for `start`.
          probabilities: whether these are wanted too.

        Yields:
          u8[H, W] ids of each frame, or (ids, f32[n + 1, H, W]) as `step` gives them.
        """
        given = dict(masks) if isinstance(masks, dict) else {0: masks}
        if 0 not in given:
            raise InputError('no masks of frame 0; begin with the first frame that has some')
        made = None  # the state after the frame whose result comes next
        for index, frame in enumerate(_with_error_last(frames)):
            task = (frame, given.get(index), num_objects)
            following = self._attempt(made, *task)
            if made is not None:
                self._state = made
                yield (self._labels(), self.probabilities()) if probabilities else self._labels()
                if self._state is not made:  # corrected in between
                    following = self._attempt(self._state, *task)
            if isinstance(following, Exception):
                raise following
            made = following
        if made is not None:
            self._state = made
            yield (self._labels(), self.probabilities()) if probabilities else self._labels()

    def _attempt(self, before, frame, masks, num_objects):
        """The state after a frame, or the error to raise once all before it is handed out."""
        if isinstance(frame, Exception):
            return frame
        other = self.sibling(lazy=True)
        other._state = before
        try:
            if before is None:
                other.start(frame, masks, num_objects=num_objects)
            else:
                other.step(frame)
            if before is not None and masks is not None:
                other.add_objects(masks)
        except Exception as error:  # raised by `segment`
            return error
        return other._state

    def observe(self, frame, masks, *, after=1, given=True):
        """Takes a later frame whose masks are known: it is remembered, nothing is segmented.

        Args:
          frame: u8[H, W, 3], of the size of the first.
          masks: u8[H, W] ids; 0 and 255 are background.
          after: how many frames it comes after the current one.
          given: whether a person gave the masks; else they count as a result.

        Returns:
          u8[H, W] the ids.

        Raises:
          InputError: as `step` and `add_objects`.
        """
        frame = self._checked_next(frame)
        masks = self._checked_given(masks)
        if after < 1:
            raise InputError(f'after={after}: the frame comes at least 1 after the current one')
        self._state = video.observe(self.program, self._state, frame, masks, after, given)
        return self._labels()

    def state(self):
        """Everything that the next step depends on, for `restore`; taken without copying.

        Returns:
          Dict of arrays and numbers by name; `previous` is a list of arrays, and `entries` a dict
          of lists of arrays by frame number. An entry of a frame never changes.
        """
        state = self._started()
        return {
            'time': state.time,
            'slots': state.slots,
            'given': np.array(state.given, np.int32),
            'ids': np.array(state.ids, np.int32),
            'labels': state.labels,
            'previous': jax.tree.leaves(state.previous),
            'entries': {time: jax.tree.leaves(entry) for time, entry in state.entries.items()},
        }

    def restore(self, arrays):
        """Resumes from a `state` of a segmenter with the same model and weights.

        Args:
          arrays: as `state` gave it, or read back from a file by NumPy.

        Raises:
          InputError: for a state of another model; the video before continues then.
        """
        slots, size = int(arrays['slots']), tuple(np.shape(arrays['previous'][0])[1:3])
        program = self.program
        previous = _in_structure(program.previous_shapes(size, slots), arrays['previous'])
        shapes = program.entry_shapes(size, slots)
        entries = {int(t): _in_structure(shapes, part) for t, part in arrays['entries'].items()}
        self._state = video.VideoState(
            time=int(arrays['time']),
            slots=slots,
            ids=tuple(np.asarray(arrays['ids']).tolist()),
            given=tuple(np.asarray(arrays['given']).tolist()),
            labels=np.asarray(arrays['labels']),
            previous=program.put(previous),
            entries=program.put(entries),
        )

    def save(self, path):
        """Writes `state` as one file, which appears whole or not at all."""
        write_state(path, self.state(), weights=self._fingerprint)

    def load(self, path):
        """Resumes from a file of `save`, in this process or another one.

        Raises:
          InputError: where the file is missing or damaged, or belongs to other weights.
        """
        what, remedy = 'a whole state of a segmenter', 'write one with Segmenter.save'
        arrays, about = read_state(path, what, remedy)
        if about.get('weights') != self._fingerprint:
            raise InputError(f'{path}: made by other weights; load those it was made by')
        self.restore(arrays)

    @functools.cached_property
    def _fingerprint(self):
        """CRC-32 of all variables: a state resumes only with the weights that it was made by."""
        return checksum.fingerprint(weights.named(self.variables))


def _in_structure(shapes, leaves):
    """Arrays in a structure. NumPy's files keep the bits of bfloat16, but not its name."""
    wanted, structure = jax.tree.flatten(shapes)
    leaves = [
        leaf.view(like.dtype) if leaf.dtype.kind == 'V' else leaf
        for leaf, like in zip(leaves, wanted)
    ]
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != [(x.shape, x.dtype) for x in wanted]:
        raise InputError('the state is that of another model; take the weights it was made by')
    return jax.tree.unflatten(structure, leaves)


def _with_error_last(items):
    """The items; an error of their iterator comes as the last one."""
    try:
        yield from items
    except Exception as error:  # raised by whoever takes them
        yield error


def step_together(segmenters, frames):
    """Does `step` of several segmenters, each in a video of its own.

    Those with frames of one size and as many slots are computed in one program, filled up to the
    next power of two, so that few programs are compiled.

    Args:
      segmenters: siblings, see `Segmenter.sibling`.
      frames: u8[H, W, 3], one for each.

    Returns:
      List of u8[H, W] ids.
    """
    frames = [one._checked_next(frame) for one, frame in zip(segmenters, frames, strict=True)]
    if segmenters:
        program, states = segmenters[0].program, [one._state for one in segmenters]
        for one, new in zip(segmenters, video.advance_together(program, states, frames)):
            one._state = new
    return [one._labels() for one in segmenters]
