"""Settings of the training data: names, defaults and meanings of everything below `config.data`."""

import dataclasses
import difflib

from vos_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Largest change of each frame on top of the clip's warp, drawn for each frame by itself."""

    rotation: float = 0.0  # degrees
    scale: float = 0.0  # 0.1: between 1/1.1 and 1.1
    shear: float = 0.0  # degrees
    shift: float = 0.0  # fraction of the crop's sides


@dataclasses.dataclass(frozen=True)
class Colour:
    """Largest change of colours; all 0: none."""

    brightness: float = 0.0  # 0.1: between 0.9 and 1.1
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0  # probability of no colours at all


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set. `weight` is relative to the other sources."""

    root: str
    name: str = ''
    kind: str = 'davis'  # 'davis', 'youtube_vos', 'still_images' or 'prepared'
    split: str = 'train'  # not for still images
    year: str = '2017'  # which list, 'davis' only
    resolution: str | None = None  # folder below JPEGImages; None: 480p or the only one
    binary: bool = False  # accept masks of 0 and 255; 'davis' and 'still_images'
    weight: float | tuple[tuple[int, float], ...] = 1.0  # or (from this step on, weight), ...
    stride: int = 1  # frames of the video between two stored ones; `gap` is divided by it
    jitter: Jitter | None = None  # in place of that below; it is what moves a still image
    colour: Colour | None = None  # in place of that below
    frame_colour: Colour | None = None  # in place of that below


@dataclasses.dataclass(frozen=True)
class Paste:
    """Objects of other clips, pasted over the clip with their own motion and ids."""

    probability: float = 0.0  # of each of the `objects`
    objects: int = 1  # at most so many
    behind: float = 0.3  # probability that it goes behind the objects of the clip
    scale: tuple[float, float] = (0.7, 1.3)  # of the pasted object, relative as `scale` below


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Everything below `config.data`."""

    sources: tuple[Source, ...]
    batch_size: int  # clips, over all processes
    crop: tuple[int, int]  # height, width in pixels
    clip_length: int = 4  # frames
    num_slots: int = 3  # objects at most; of more, the most visible are kept
    min_pixels: int = 64  # an object counts if the first frame shows so many after the crop
    gap: tuple[tuple[int, int], ...] = ((0, 1),)  # (from this step on, largest gap in frames)
    reference: str = 'first'  # 'first': the clip's frames follow each other; 'random': its first
    # frame is any frame of the video, the others follow each other (CFBI)
    reverse: float = 0.5  # probability of playing the clip backwards
    flip: float = 0.5  # probability of a mirrored clip
    scale: tuple[float, float] = (1.0, 1.5)  # enlargement, drawn on a log scale, relative to:
    scale_of: str = 'cover'  # 'cover': frame just covers the crop; 'source': pixels of the file
    stretch: float = 0.0  # 0.1: width against height between 1/1.1 and 1.1
    rotation: float = 0.0  # degrees, both ways
    shear: float = 0.0  # degrees, both ways
    balanced_pixels: int = 0  # the first crop is drawn again until it shows so much foreground,
    balanced_tries: int = 5  # at most so often
    jitter: Jitter = Jitter()
    colour: Colour = Colour()  # of a whole clip
    frame_colour: Colour = Colour()  # of each frame by itself, on top of that
    paste: Paste = Paste()
    num_workers: int = 0  # processes; 0: threads of this process
    num_threads: int = 2  # per process
    prefetch: int = 4  # batches held ready per process
    cache_mb: int = 0  # decoded frames and masks kept in memory, per process
    skip_broken: bool = False  # leave broken videos out, with a warning that counts them


_GROUPS = {'jitter': Jitter, 'colour': Colour, 'frame_colour': Colour, 'paste': Paste}


def read_settings(data):
    """Makes settings of `config.data`, a ConfigDict or nested dict; a misspelt name is an error.

    `sources` is a list of groups, or one group for each name: `sources.davis.root=...`.
    """
    sources = read_sources(data.get('sources', ()), 'data')
    settings = _group(DataSettings, {**dict(data.items()), 'sources': sources}, 'data')
    _check(settings)
    return settings


def read_sources(groups, where):
    """Makes a Source of each group in a list or in a ConfigDict; `where` names them in errors."""
    if hasattr(groups, 'items'):
        groups = [{'name': name, **dict(group.items())} for name, group in groups.items()]
    return [
        _group(Source, group, f'{where}.sources[{index}]') for index, group in enumerate(groups)
    ]


def value_at(schedule, step):
    """Value at a step: that of the last pair (from_step, value) with from_step <= step."""
    return [value for start, value in schedule if start <= step][-1]


def weight_schedule(source):
    """Weights of a source as ((from_step, weight), ...)."""
    return source.weight if isinstance(source.weight, tuple) else ((0, source.weight),)


def _group(kind, values, where):
    known = [field.name for field in dataclasses.fields(kind)]
    values = {name: _plain(value) for name, value in values.items()}
    for name, inner in _GROUPS.items():
        if name in known and hasattr(values.get(name), 'items'):
            values[name] = _group(inner, values[name], f'{where}.{name}')
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise InputError(f"'{where}.{name}' is not a setting; nearest: '{where}.{nearest}'")
    needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    for name in needed:
        if name not in values:
            raise InputError(f"'{where}.{name}' is not set; it has no default")
    return kind(**values)


def _plain(value):
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _is_schedule(value):
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 for pair in value)
    steps = [pair[0] for pair in value] if pairs else []
    return steps[:1] == [0] and sorted(set(steps)) == steps


def _check(settings):
    schedules = [weight_schedule(source) for source in settings.sources]
    for source, schedule in zip(settings.sources, schedules, strict=True):
        if not _is_schedule(schedule):
            raise InputError(
                f"'data.sources.{source.name or source.root}.weight' is {source.weight!r}; needed: "
                'a weight, or pairs of a step and a weight, the steps rising from 0'
            )
    steps = {step for schedule in schedules for step, _ in schedule}
    weights = [[value_at(schedule, step) for schedule in schedules] for step in steps]
    mixed = all(min(values) >= 0 < max(values) for values in weights)
    steps, gaps = zip(*settings.gap, strict=True) if settings.gap else ((), ())
    rules = [
        ('sources', weights and mixed, 'weights from 0 on, one above 0'),
        ('gap', steps[:1] == (0,) and sorted(set(steps)) == list(steps), 'steps that rise from 0'),
        ('gap', gaps and min(gaps) >= 1, 'gaps of at least 1'),
        ('crop', len(settings.crop) == 2 and min(settings.crop) >= 1, 'height and width in pixels'),
        ('scale', 0 < settings.scale[0] <= settings.scale[-1], 'lowest and highest, above 0'),
        ('reference', settings.reference in ('first', 'random'), "'first' or 'random'"),
        ('scale_of', settings.scale_of in ('cover', 'source'), "'cover' or 'source'"),
    ]
    counts = ('batch_size', 'clip_length', 'num_slots', 'num_threads', 'prefetch')
    rules += [(name, getattr(settings, name) >= 1, 'at least 1') for name in counts]
    for name, is_right, rule in rules:
        if not is_right:
            raise InputError(f"'data.{name}' is {getattr(settings, name)!r}; needed: {rule}")
