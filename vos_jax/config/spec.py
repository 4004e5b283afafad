"""What a setting may be: a type by annotation, a range beside it, and specs that hold to both.

>>> @dataclasses.dataclass(frozen=True)
... class Steps(Spec):
...     warmup: Count = 1
...     end: Annotated[float, Range(0, 1)] = 1e-5

>>> Steps(warmup=0)
Traceback (most recent call last):
vos_jax.config.spec.SettingError: 'warmup' is 0; needed: a whole number from 1 to 1000000000
"""

import dataclasses
import functools
import itertools
import math
import re
import reprlib
import types
import typing
from typing import Annotated, Literal

from vos_jax.errors import InputError

FLOAT_MAX = 3.4e38  # numbers end up in float32


class SettingError(InputError):
    """A setting has a value that it may not have.

    Args:
      name: of the setting; dotted, as far as the raiser knows its groups.
      value: what it has.
      needed: what it may have: 'needed: ...' or 'one of ...'.
    """

    def __init__(self, name, value, needed):
        super().__init__(f"'{name}' is {_SHORT.repr(value)}; {needed}")
        self.name, self.value, self.needed = name, value, needed

    def __reduce__(self):  # by its message alone it would not come back from another process
        return SettingError, (self.name, self.value, self.needed)

    def below(self, group):
        """The same error, its setting named from a group above (''  for none)."""
        return SettingError(f'{group}.{self.name}' if group else self.name, self.value, self.needed)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; a round bracket in `ends` leaves that end out."""

    low: float
    high: float = math.inf
    ends: str = '[]'

    def accepts(self, value):
        above = value > self.low if self.ends[0] == '(' else value >= self.low
        return above and (value < self.high if self.ends[1] == ')' else value <= self.high)

    def __str__(self):
        if self.high == math.inf:
            return f'above {self.low}' if self.ends[0] == '(' else f'of at least {self.low}'
        low = 'above' if self.ends[0] == '(' else 'from'
        high = 'to below' if self.ends[1] == ')' else 'to'
        return f'{low} {self.low} {high} {self.high}'


@dataclasses.dataclass(frozen=True)
class Length:
    """A tuple of `low` to `high` values."""

    low: int
    high: int

    def accepts(self, value):
        return self.low <= len(value) <= self.high

    def __str__(self):
        return f'({self.low} to {self.high} of them)' if self.high > self.low else f'({self.low})'


class Rule:
    """What else values must hold, and how an error says it."""

    def __init__(self, accepts, text):
        self.accepts, self._text = accepts, text

    def __str__(self):
        return self._text


def _is_pattern(value):
    try:
        return re.compile(value) is not None
    except (re.error, RecursionError, OverflowError):
        return False


PATTERN = Rule(_is_pattern, 'that is a regular expression')
ASCENDING = Rule(lambda values: list(values) == sorted(values), 'that do not fall')


def rising(start=None):
    """The rule of points (step, value) whose steps rise, from `start` on where it is given."""

    def accepts(points):
        steps = [point[0] for point in points]
        begins = start is None or steps[:1] == [start]
        return begins and all(a < b for a, b in itertools.pairwise(steps))

    return Rule(accepts, 'with steps that rise' + ('' if start is None else f' from {start}'))


# Ranges that many settings share.
MANY = 10**9  # more frames, steps or pixels than there will be; fits in int32
Count = Annotated[int, Range(1, MANY)]
Whole = Annotated[int, Range(0, MANY)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, ends='(]')]
NotNegative = Annotated[float, Range(0)]


class Spec:
    """Base of all specs, which are frozen dataclasses: each checks its own fields.

    Lists become tuples and whole numbers instead of floats become floats, so that equal settings
    make equal, hashable specs. A spec whose fields must fit together says so in `check`.
    """

    def __post_init__(self):
        for name, hint in hints(type(self)).items():
            value = getattr(self, name)
            try:
                fitted = fit(value, hint)
            except _Unfit:
                raise SettingError(name, value, needed(hint)) from None
            object.__setattr__(self, name, fitted)
        self.check()

    def check(self):
        """Raises SettingError where fields do not fit together."""


@functools.cache
def hints(kind):
    """Types of a spec's fields by name, with their ranges."""
    found = typing.get_type_hints(kind, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


class _Unfit(Exception):
    pass


def fit(value, hint):
    """The value as a type wants it; raises _Unfit where it is of another or out of its range."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = fit(value, parts[0])
        return value if all(rule.accepts(value) for rule in parts[1:]) else _refuse()
    if origin in (typing.Union, types.UnionType):
        return _fit_any(value, parts)
    if origin is Literal:
        return value if (type(value), value) in [(type(p), p) for p in parts] else _refuse()
    return _fit_tuple(value, parts) if origin is tuple else _fit_plain(value, hint)


def _fit_any(value, kinds):
    for kind in kinds:
        try:
            return fit(value, kind)
        except _Unfit:
            continue
    return _refuse()


def _fit_tuple(value, parts):
    if not isinstance(value, tuple | list):
        _refuse()
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    return tuple(map(fit, value, parts)) if len(value) == len(parts) else _refuse()


def _fit_plain(value, kind):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value) if abs(value) <= FLOAT_MAX and not math.isnan(value) else _refuse()
    if kind is int and (not is_number or isinstance(value, float)):
        _refuse()
    return value if isinstance(value, kind) else _refuse()


def _refuse():
    raise _Unfit


def needed(hint):
    """What an error says of a type: 'needed: a whole number of at least 1', "one of 'a', 'b'"."""
    if typing.get_origin(hint) is Literal:
        return one_of(typing.get_args(hint))
    return f'needed: {_describe(hint)}'


def one_of(values):
    """What an error says where only some values are allowed."""
    return f'one of {", ".join(map(repr, values))}'


_WORDS = {
    int: 'a whole number',
    float: 'a finite number',
    bool: 'True or False',
    str: 'text',
    type(None): 'None',
}


def _describe(hint):
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return ' '.join([_describe(parts[0]), *map(str, parts[1:])])
    if origin in (typing.Union, types.UnionType):
        return ', or '.join(map(_describe, parts))
    if origin is tuple:
        if len(parts) > 1 and len(set(parts)) == 1:
            return f'{len(parts)} values, each {_describe(parts[0])}'
        inner = ['...' if part is Ellipsis else _describe(part) for part in parts]
        return f'({", ".join(inner)})'
    return _WORDS.get(hint, 'a group of settings')


class _Short(reprlib.Repr):
    """Values in errors, long ones cut."""

    def __init__(self):
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxtuple = self.maxlist = self.maxdict = 12
        self.maxlevel = 4


_SHORT = _Short()
