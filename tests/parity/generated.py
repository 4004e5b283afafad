"""Weights of the parity records, made by rule: no checkpoint is needed, and every bit is known.

Each tensor has a generator of its own, PCG64 of the CRC-32 of its name, of which only products and
sums in float32 are taken.
"""

import json
import math
import zlib

import numpy as np


def state_dict(names):
    """Arrays by name, in PyTorch's layout, of a file that lists names, shapes, rules and CRC-32."""
    listed = json.loads(names.read_text())
    arrays = {about['name']: _tensor(about) for about in listed['tensors']}
    for about in listed['tensors']:
        assert zlib.crc32(arrays[about['name']].tobytes()) == about['crc32'], about['name']
    for name, about in listed.get('constants', {}).items():
        arrays[name] = np.array(about['values'], np.float32).reshape(about['shape'])
    return arrays


def _tensor(about):
    shape, rule, scale = about['shape'], about['rule'], about.get('scale', 1.0)
    if rule == 'counter':
        return np.zeros(shape, about['dtype'])
    if rule == 'constant':
        return np.full(shape, scale, np.float32)
    generator = np.random.Generator(
        np.random.PCG64(zlib.crc32(about.get('seed_name', about['name']).encode()))
    )

    def normal(shape):
        return generator.standard_normal(size=shape, dtype=np.float32)

    gain = np.float32(scale * math.sqrt(2.0 / math.prod(shape[1:])))
    if rule == 'conv':
        values = normal(shape) * gain
    elif rule == 'conv_paired':  # the filter sums to zero: the mean of its inputs cancels
        half = shape[1] // 2
        drawn = normal((shape[0], shape[1] - half, *shape[2:])) * gain
        values = np.concatenate([drawn[:, :half], -drawn[:, :half], drawn[:, half:]], axis=1)
    elif rule == 'linear':
        values = normal(shape) * np.float32(scale * math.sqrt(1.0 / math.prod(shape[1:])))
    elif rule == 'norm_weight':
        values = (normal(shape) * np.float32(0.1) + np.float32(1)) * np.float32(scale)
    elif rule == 'running_var':
        drawn = np.clip(normal(shape), np.float32(-3), np.float32(3))
        values = (drawn * np.float32(0.15) + np.float32(1)) * np.float32(scale)
    elif rule == 'normal':
        values = normal(shape) * np.float32(scale)
    else:  # norm_bias, bias, running_mean
        values = normal(shape) * np.float32(0.1 * scale)
    # Not the sum with 0: -0 is another bit pattern than 0.
    return values + np.float32(about['shift']) if about.get('shift') else values
