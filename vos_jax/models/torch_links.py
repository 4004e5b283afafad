"""Links between the arrays of a PyTorch state_dict and those of our models.

A link says where an array of ours comes from and how its layout changes; it works both ways, and on
gradients as on weights. Names of ours are paths below the collection: whether scale and bias of a
norm are trained ('params') or not ('batch_stats') is the model's affair.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

COUNTER = 'num_batches_tracked'
NORM = ('weight', 'bias', 'running_mean', 'running_var')  # arrays of a BatchNorm


class Layout(NamedTuple):
    """How arrays of theirs become one array of ours, and back."""

    to_ours: Callable[..., np.ndarray]
    to_theirs: Callable[[np.ndarray], tuple[np.ndarray, ...]]


SAME = Layout(lambda a: a, lambda a: (a,))
# [out, in, kh, kw] <-> [kh, kw, in, out]
CONV = Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: (a.transpose(3, 2, 0, 1),))
# [out, in] <-> [in, out]
DENSE = Layout(np.transpose, lambda a: (a.T,))


def joined(*channels):
    """Convolutions whose results are summed, of so many input channels each: one of the joined."""
    ends = np.cumsum(channels)[:-1]

    def to_ours(*kernels):
        return CONV.to_ours(np.concatenate(kernels, axis=1))

    def to_theirs(kernel):
        return tuple(np.split(CONV.to_theirs(kernel)[0], ends, axis=1))

    return Layout(to_ours, to_theirs)


def rolled(channels):
    """A convolution of two inputs in the other order; `channels` of their first, our last."""

    def to_theirs(kernel):
        return (np.roll(CONV.to_theirs(kernel)[0], channels, axis=1),)

    return Layout(lambda a: CONV.to_ours(np.roll(a, -channels, axis=1)), to_theirs)


class Link(NamedTuple):
    """One array of ours."""

    ours: str  # 'query_encoder/conv1/kernel', below the collection
    theirs: tuple[str, ...]  # names in the state_dict, one or (for `joined`) several
    layout: Layout = SAME


@dataclasses.dataclass(frozen=True)
class Folded:
    """Norms that ours do not have: each is folded into the convolution before it."""

    norms: Mapping[str, str]  # name of the norm -> name of its convolution, which has no bias
    epsilon: float  # of the norms

    def fold(self, theirs):
        """A state_dict without the norms, whose convolutions have biases instead."""
        theirs = dict(theirs)
        for norm, conv in self.norms.items():
            scale, bias, mean, var = (theirs.pop(f'{norm}.{name}') for name in NORM)
            # In float64: the result is that of one rounding.
            factor = scale / np.sqrt(var.astype(np.float64) + self.epsilon)
            kernel = theirs[f'{conv}.weight']
            folded = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
            theirs[f'{conv}.weight'] = folded.astype(kernel.dtype)
            theirs[f'{conv}.bias'] = (bias - mean * factor).astype(bias.dtype)
        return theirs

    def unfold(self, theirs):
        """The inverse as far as there is one: norms that add the bias and nothing else."""
        theirs = dict(theirs)
        for norm, conv in self.norms.items():
            bias = theirs.pop(f'{conv}.bias')
            values = (np.ones_like(bias), bias, np.zeros_like(bias))
            values += (np.full_like(bias, 1.0 - self.epsilon),)
            theirs.update(zip((f'{norm}.{name}' for name in NORM), values, strict=True))
        return theirs


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of PyTorch checkpoint.

    Attributes:
      config: stored in the file of ours; `model` builds the model.
      links: one for each array of ours.
      shapes: function without arguments -> nested dict of the shapes of our variables.
      constants: buffers that must have these values; written again on export.
      left_out: regular expression of names that are known and not taken.
      counters: whether weights that were trained here are written with the `num_batches_tracked`
        of each norm. They have no counterpart here and may be absent (before PyTorch 0.4.1, and in
        frozen norms); the file keeps those it came with for the way back.
      folded: norms that are folded into convolutions on the way in.
    """

    config: Mapping[str, Any]
    links: tuple[Link, ...]
    shapes: Callable[[], Mapping[str, Any]]
    constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    left_out: str | None = None
    counters: bool = True
    folded: Folded | None = None

    def is_left_out(self, name):
        """Whether a name of theirs is known and not taken."""
        return self.left_out is not None and re.fullmatch(self.left_out, name) is not None

    def counter_names(self):
        """Names of the counters beside the running statistics of the norms."""
        stem = 'running_var'
        theirs = [name for link in self.links for name in link.theirs]
        if self.folded:
            theirs += [f'{norm}.{stem}' for norm in self.folded.norms]
        return [n.removesuffix(stem) + COUNTER for n in theirs if n.endswith(f'.{stem}')]

    def needed(self):
        """Shapes of theirs by name: what a checkpoint must have, the counters apart."""
        ours = {
            path: np.broadcast_to(np.float32(0), shape.shape)
            for path, shape in below(self.shapes()).items()
        }
        arrays = {**self.constants, **self.to_theirs(ours)}
        return {name: array.shape for name, array in arrays.items()}

    def to_ours(self, theirs):
        """Arrays of ours by path below the collection, from those of theirs by name."""
        return to_ours(self.links, self.folded.fold(theirs) if self.folded else theirs)

    def to_theirs(self, ours):
        """Arrays of theirs by name, from those of ours by path below the collection."""
        theirs = to_theirs(self.links, ours)
        return self.folded.unfold(theirs) if self.folded else theirs


def below(variables):
    """Arrays of a nested dict by their paths below the collection.

    >>> below({'params': {'key': {'kernel': 1}}, 'batch_stats': {'bn': {'mean': 2}}})
    {'key/kernel': 1, 'bn/mean': 2}
    """
    flat = traverse_util.flatten_dict(dict(variables), sep='/')
    return {name.partition('/')[2]: array for name, array in flat.items()}


def to_theirs(links, ours):
    """Arrays by their names, in the order of the links; `ours`: by path below the collection."""
    theirs = {}
    for link in links:
        parts = link.layout.to_theirs(ours[link.ours])
        theirs.update(zip(link.theirs, parts, strict=True))
    return theirs


def to_ours(links, theirs):
    """Arrays by our paths below the collection; the inverse of `to_theirs`."""
    return {link.ours: link.layout.to_ours(*(theirs[n] for n in link.theirs)) for link in links}


def conv(theirs, ours, bias=False, layout=CONV):
    """Links of a convolution."""
    links = [Link(f'{ours}/kernel', (f'{theirs}.weight',), layout)]
    return links + ([Link(f'{ours}/bias', (f'{theirs}.bias',))] if bias else [])


def norm(theirs, ours):
    """Links of a BatchNorm, its statistics among them."""
    pairs = dict(weight='scale', bias='bias', running_mean='mean', running_var='var')
    return [Link(f'{ours}/bn/{b}', (f'{theirs}.{a}',)) for a, b in pairs.items()]
