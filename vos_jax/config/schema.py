"""Every setting with its meaning, default and range; docs/tpu_pods.md says more of some.

A model's own settings are in `models/NAME/spec.py`. Recipes (`configs/`) state what differs from
the defaults here; runs and weights from before a setting existed get its default too.
"""

import dataclasses
from typing import Annotated, Literal, get_args

from vos_jax.config.spec import (
    ASCENDING,
    MANY,
    PATTERN,
    Count,
    Length,
    NotNegative,
    Positive,
    Range,
    SettingError,
    Share,
    Spec,
    Whole,
    rising,
)

Pixels = Annotated[int, Range(1, 2**14)]
Degrees = Annotated[float, Range(0, 180)]
Shear = Annotated[float, Range(0, 80)]  # degrees
Factor = Annotated[float, Range(0, 100, '(]')]
Factors = Annotated[tuple[Factor, Factor], ASCENDING]  # lowest, highest
Spread = Annotated[float, Range(0, 10)]  # 0.1: between 1/1.1 and 1.1
Schedule = Annotated[tuple[tuple[Whole, NotNegative], ...], rising(start=0)]
Workers = Annotated[int, Range(0, 1024)]


@dataclasses.dataclass(frozen=True)
class Jitter(Spec):
    """Largest change of each frame on top of the clip's warp, drawn for each frame by itself."""

    rotation: Degrees = 0.0
    scale: Spread = 0.0
    shear: Shear = 0.0
    shift: Share = 0.0  # of the crop's sides


@dataclasses.dataclass(frozen=True)
class Colour(Spec):
    """Largest change of colours; all 0: none."""

    brightness: Share = 0.0  # 0.1: between 0.9 and 1.1
    contrast: Share = 0.0
    saturation: Share = 0.0
    grey: Share = 0.0  # probability of no colours at all


@dataclasses.dataclass(frozen=True)
class Paste(Spec):
    """Objects of other clips, pasted over the clip with their own motion and ids."""

    probability: Share = 0.0  # of each of the `objects`
    objects: Annotated[int, Range(0, 254)] = 1  # up to N
    behind: Share = 0.3  # probability that it goes behind the objects of the clip
    scale: Factors = (0.7, 1.3)  # of the pasted object, relative as `scale` below


@dataclasses.dataclass(frozen=True)
class Source(Spec):
    """One data set. `weight` is relative to the other sources."""

    root: str
    name: str = ''
    kind: Literal['davis', 'youtube_vos', 'still_images', 'prepared'] = 'davis'
    split: str = 'train'  # not for still images
    year: str = '2017'  # which list, 'davis' only
    resolution: str | None = None  # folder below JPEGImages; None: 480p or the only one
    binary: bool = False  # accept masks of 0 and 255; 'davis' and 'still_images'
    weight: NotNegative | Schedule = 1.0  # or (from this step on, weight) pairs
    stride: Count = 1  # frames of the video between two stored ones; `gap` is divided by it
    jitter: Jitter | None = None  # instead of that below; it is what moves a still image
    colour: Colour | None = None  # instead of that below
    frame_colour: Colour | None = None  # instead of that below
    paste: Paste | None = None  # instead of that below

    @property
    def weights(self):
        """Its weights as ((from_step, weight), ...)."""
        return self.weight if isinstance(self.weight, tuple) else ((0, self.weight),)


def value_at(schedule, step):
    """Value at a step: that of the last pair (from_step, value) with from_step <= step."""
    return [value for start, value in schedule if start <= step][-1]


def num_slots_for(num_objects):
    """Slots compiled for so many objects: 1, 3, 6, then multiples of 6.

    >>> [num_slots_for(n) for n in (1, 2, 3, 4, 7)]
    [1, 3, 3, 6, 12]
    """
    for slots in (1, 3, 6):
        if num_objects <= slots:
            return slots
    return -(-num_objects // 6) * 6


@dataclasses.dataclass(frozen=True)
class DataSpec(Spec):
    """`config.data`: the clips that a model is trained on."""

    sources: tuple[Source, ...]
    batch_size: Annotated[int, Range(1, 10**6)]  # clips, over all processes
    crop: tuple[Pixels, Pixels]  # height, width
    clip_length: Annotated[int, Range(1, 1000)] = 4  # frames
    num_slots: Annotated[int, Range(1, 254)] = 3  # objects; of more, the most visible are kept
    # Batches among which the clips are dealt by the number of objects in their videos; above 1 the
    # step is compiled for 1, 3, 6, ... slots, and a batch pays for those that it uses
    slot_window: Count = 1
    min_pixels: Whole = 64  # of the first frame after the crop, from which on an object counts
    # (from this step on, largest gap in frames)
    gap: Annotated[tuple[tuple[Whole, Count], ...], rising(start=0)] = ((0, 1),)
    # 'first': the clip's frames follow each other; 'random': its first frame is any frame of the
    # video, the others follow each other (CFBI)
    reference: Literal['first', 'random'] = 'first'
    reverse: Share = 0.5  # probability of playing the clip backwards
    flip: Share = 0.5  # probability of a mirrored clip
    scale: Factors = (1.0, 1.5)  # enlargement, drawn on a log scale, relative to:
    # 'cover': the frame just covers the crop; 'source': pixels of the file
    scale_of: Literal['cover', 'source'] = 'cover'
    stretch: Spread = 0.0  # width against height
    rotation: Degrees = 0.0  # both ways
    shear: Shear = 0.0  # both ways
    balanced_pixels: Whole = 0  # the first crop is drawn again until it shows so much foreground,
    balanced_tries: Annotated[int, Range(0, 1000)] = 5  # up to N times
    jitter: Jitter = Jitter()
    colour: Colour = Colour()  # of a whole clip
    frame_colour: Colour = Colour()  # of each frame by itself, on top of that
    paste: Paste = Paste()
    num_workers: Workers = 0  # processes; 0: threads of this process
    num_threads: Annotated[int, Range(1, 1024)] = 2  # per process
    prefetch: Annotated[int, Range(1, 1024)] = 4  # batches held ready per process
    cache_mb: Annotated[int, Range(0, 10**7)] = 0  # decoded frames and masks, per process
    stage: str = ''  # local folder to which each host copies prepared shards first; '': none
    # 'device': the loader decodes alone, and the train step warps the clips on the accelerator
    warp: Literal['host', 'device'] = 'host'
    skip_broken: bool = False  # leave broken videos out, with a warning that counts them

    @property
    def slot_ladder(self):
        """Numbers of slots that the train step is compiled for, the largest last."""
        if self.slot_window == 1:
            return (self.num_slots,)
        counts = (min(num_slots_for(n), self.num_slots) for n in range(1, self.num_slots + 1))
        return tuple(sorted(set(counts)))

    @property
    def warped(self):
        """The same with the warp on the host: batches are as the model sees them."""
        return dataclasses.replace(self, warp='host')

    def check(self):
        steps = {step for source in self.sources for step, _ in source.weights}
        mixed = [any(value_at(s.weights, step) for s in self.sources) for step in steps]
        if not self.sources or not all(mixed):
            weights = {source.name or source.root: source.weight for source in self.sources}
            raise SettingError('sources', weights, 'needed: weights of which one is above 0')
        for source in self.sources if self.warp == 'device' else ():
            self._check_device(source)

    def _check_device(self, source):
        """Refuses what changes the pixels of a source after the warp."""
        colours = ('brightness', 'contrast', 'saturation', 'grey')
        changes = {'paste': ('probability',), 'colour': colours, 'frame_colour': colours}
        for group, name in [(group, name) for group, names in changes.items() for name in names]:
            own = getattr(source, group)
            if value := getattr(own or getattr(self, group), name):
                place = f'sources.{source.name or source.root}.' if own else ''
                needed = "needed: 0, since data.warp is 'device'"
                raise SettingError(f'{place}{group}.{name}', value, needed)


@dataclasses.dataclass(frozen=True)
class LossSpec(Spec):
    """`config.loss`: weights of the terms of `training.losses`."""

    bce: NotNegative = 1.0  # of the class-agnostic map
    ce: NotNegative = 1.0  # of the objects; GIEL's lambda
    dice: NotNegative = 0.0
    propagation: NotNegative = 0.0
    # (step, share of pixels that enter the cross entropy, the hardest) points; (): all
    hardest: Annotated[tuple[tuple[Whole, Annotated[float, Range(0, 1, '(]')]], ...], rising()] = ()
    # of the 'valid' pixels, or of 'all', void ones too, as CFBI's released code has it
    hardest_of: Literal['valid', 'all'] = 'valid'
    frames: Literal['all', 'last'] = 'all'  # predicted frames that count

    def check(self):
        if not (self.bce or self.ce or self.dice or self.propagation):
            raise SettingError('ce', self.ce, 'needed: a term of the loss with a weight above 0')


@dataclasses.dataclass(frozen=True)
class OptimizerSpec(Spec):
    """`config.optimizer`."""

    name: Literal['adam', 'adamw', 'sgd'] = 'adam'
    learning_rate: Positive = 1e-5  # the highest; it goes with the batch size
    schedule: Literal['constant', 'cosine', 'poly', 'steps'] = 'poly'
    # of 'steps': (step, factor) pairs; from the step on the rate is so much lower than before
    drops: Annotated[tuple[tuple[Whole, Positive], ...], rising()] = ()
    warmup: Whole = 0  # steps
    end: NotNegative = 0.0  # rate after the last step (cosine, poly)
    power: Positive = 1.0  # of poly; 1 is linear
    weight_decay: NotNegative = 0.0  # of matrices and kernels, not of vectors
    momentum: Annotated[float, Range(0, 1, '[)')] = 0.9  # of sgd only
    clip_norm: NotNegative = 0.0  # of the whole gradient; 0: none
    # (pattern, factor of the rate) of parameters whose names have the pattern; 0 freezes them
    groups: tuple[tuple[Annotated[str, PATTERN], NotNegative], ...] = ()

    def check(self):
        if (self.schedule == 'steps') != bool(self.drops):
            needed = "needed: ((step, factor), ...) with the schedule 'steps', and with no other"
            raise SettingError('drops', self.drops, needed)


# From the least work to the least memory.
Remat = Literal['none', 'products', 'step', 'full']
REMAT = get_args(Remat)


@dataclasses.dataclass(frozen=True)
class TrainingSpec(Spec):
    """`config.training`: the loop and the step."""

    steps: Count = 160_000
    ema_decay: Annotated[float, Range(0, 1, '[)')] = 0.0  # of the averaged weights; 0: none
    predict_from: Annotated[int, Range(1, 999)] = 1  # frames before it come with true masks
    sequential_from: Whole = 0  # until this step true masks are memorised instead of predicted ones
    # What the backward pass computes again: 'step', each step of a clip; 'full', the encoding of
    # the frames too; 'products', as 'full', but products and convolutions are kept; 'auto', as
    # little as fits the memory of the device, on CPUs nothing
    remat: Literal['auto', Remat] = 'auto'
    unrolled: bool = False  # steps of a clip one by one: quicker on CPUs
    accumulate: Count = 1  # parts in which each device computes its clips of a batch
    log_every: Count = 100  # steps
    checkpoint_every: Count = 1000
    evaluate_every: Whole = 10_000  # 0: never
    export_at: tuple[Whole, ...] = ()  # steps whose weights are kept in files of their own
    keep: Annotated[int, Range(2, 10_000)] = 2  # newest checkpoints; one to fall back on
    keep_every: Whole = 0  # steps whose checkpoints stay for good; 0: none
    keep_best: Annotated[int, Range(1, 10_000)] = 1  # best checkpoints
    nonfinite: Literal['stop', 'skip'] = 'stop'  # at a loss that is not finite
    nonfinite_limit: Whole = 10  # batches left out by 'skip', then the run stops
    recompilation: Literal['warn', 'error'] = 'warn'  # when the step compiles again


@dataclasses.dataclass(frozen=True)
class MeshSpec(Spec):
    """`config.mesh`: devices along each axis."""

    # -1: as many of those that the others leave as divide the clips; the rest go to `spatial`
    data: Annotated[int, Range(-1, MANY)] = -1
    fsdp: Count = 1
    spatial: Count = 1

    def check(self):
        if self.data == 0:
            raise SettingError('data', 0, 'needed: 1 or more, or -1 for all devices')


@dataclasses.dataclass(frozen=True)
class EvaluationSpec(Spec):
    """`config.evaluation`: what is scored while a model trains."""

    sources: tuple[Source, ...] = ()
    max_frames: Whole = 0  # of each sequence; 0: all
    max_sequences: Whole = 0  # of each source; 0: all

    def check(self):
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):  # scores are by name
            raise SettingError('sources', names, 'needed: a name of its own for each')
        if self.max_frames in (1, 2):  # the official score leaves out the first and the last
            raise SettingError('max_frames', self.max_frames, 'needed: 3 or more, or 0 for all')


Policy = Literal['sample', 'first', 'previous', 'first+previous', 'given+previous', 'every_n']
POLICIES = get_args(Policy)


@dataclasses.dataclass(frozen=True)
class MemorySpec(Spec):
    """`config.inference.memory`: which processed frames a query frame reads, and how many are kept.

    Attributes:
      policy: 'sample' (GIEL, section 4.1: `size` frames spread over the processed, the first
        and the previous always among them), 'first', 'previous', 'first+previous',
        'given+previous' (CFBI: all frames with given masks; of more than `size` - 1 the first and
        the latest), or 'every_n' (STM: every `every`-th frame, those with given masks and the
        previous one; up to `size`, spread if more).
      size: T, most frames read at once. With 'every_n' it may be larger than any video needs: the
        memory grows in steps, and only frames that may be read again are kept.
      every: for 'every_n'.
      capacity: most frames kept; when full, every second one but the first and the last is dropped,
        so memory does not grow with the video. Given frames stay where that leaves room.
    """

    policy: Policy = 'sample'
    size: Annotated[int, Range(2, 10_000)] = 5  # the first and the previous frame at least
    every: Count = 5
    capacity: Annotated[int, Range(3, 10**6)] = 64

    def check(self):
        if self.capacity < self.size:
            least = f'needed: at least {self.size}, as many as are read at once (size)'
            raise SettingError('capacity', self.capacity, least)

    @property
    def num_slots(self):
        """Most slots of the assembled memory: one more where the previous frame is not read."""
        fixed = {'first': 2, 'previous': 1, 'first+previous': 2}
        return fixed.get(self.policy, self.size)

    def num_slots_for(self, num_frames):
        """Slots compiled for a number of frames: all; with 'every_n' 5, 10, 20, ... as they grow.

        >>> [MemorySpec('every_n', 100, capacity=100).num_slots_for(n) for n in (1, 6, 90)]
        [5, 10, 100]
        """
        if self.policy != 'every_n':
            return self.num_slots
        slots = 5
        while slots < num_frames:
            slots *= 2
        return min(slots, self.size)


@dataclasses.dataclass(frozen=True)
class InferenceSpec(Spec):
    """`config.inference`: how a trained model sees a video."""

    memory: MemorySpec = MemorySpec()
    # Frames whose shorter side has fewer pixels are enlarged to it, at most twice, where the model
    # sees them: small frames have few memory cells
    enlarge_to: Annotated[int, Range(0, 2**12)] = 0
    # Results are averaged over these factors on the size of the frames
    scales: Annotated[tuple[Annotated[float, Range(0, 16, '(]')], ...], Length(1, 64)] = (1.0,)
    flip: bool = False  # and over mirrored frames
    # longest, pixels at scale 1; 0: any, but 800 with several scales, as CFBI's released code
    max_edge: Annotated[int, Range(0, 2**14)] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """`config.model`: what the specs of all models (`models/NAME/spec.py`) begin with."""

    name: str
    # Of computing, not of weights; 'auto': bfloat16 on accelerators, float32 on CPUs
    dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'

    def resolved(self, *platforms):
        """The spec with 'auto' decided: the one rule for the type that a model computes in.

        Args:
          platforms: 'cpu', 'gpu', 'cuda', 'tpu', ... of all devices that run the program. One for
            several has one type: float32 where a CPU is among them.

        >>> ModelSpec(name='giel').resolved('cpu', 'tpu').dtype
        'float32'
        """
        if self.dtype != 'auto':
            return self
        return dataclasses.replace(self, dtype='float32' if 'cpu' in platforms else 'bfloat16')


@dataclasses.dataclass(frozen=True)
class Config(Spec):
    """Everything that decides a run. `models.registry.read_config` makes one of a mapping."""

    model: ModelSpec
    data: DataSpec | None = None  # None: of weights that were not trained here
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    inference: InferenceSpec = InferenceSpec()
    mesh: MeshSpec = MeshSpec()
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    # Of float32 products (jax.default_matmul_precision); 'auto': as JAX computes them by itself
    precision: Literal['auto', 'tensorfloat32', 'float32'] = 'auto'
    init: str = ''  # file of weights to start from; '': random
    profile: Annotated[int, Range(0, 10**6)] = 0  # steps to profile, once under way
    profiler_port: Annotated[int, Range(0, 65535)] = 0  # where XProf captures, the next for the
    # second process of a host; 0: none

    @property
    def computes_in(self):
        """'bfloat16', or 'bfloat16, float32 products in tensorfloat32', for people."""
        products = '' if self.precision == 'auto' else f', float32 products in {self.precision}'
        return f'{self.model.dtype}{products}'

    def check(self):
        optimizer, training, data = self.optimizer, self.training, self.data
        if optimizer.warmup > training.steps:
            most = f'needed: at most {training.steps}, the training.steps'
            raise SettingError('optimizer.warmup', optimizer.warmup, most)
        if data and training.predict_from >= max(data.clip_length, 2):
            most = f'needed: less than {data.clip_length}, the data.clip_length'
            raise SettingError('training.predict_from', training.predict_from, most)
        if data and data.batch_size % training.accumulate:
            most = f'needed: a divisor of {data.batch_size}, the data.batch_size'
            raise SettingError('training.accumulate', training.accumulate, most)
