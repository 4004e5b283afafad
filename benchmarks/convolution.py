"""Times each convolution of a train step: python -m benchmarks.convolution --config=FILE[:VARIANT].

For every shape in the traced loss: forward pass, gradient by the image and by the kernel as XLA's
convolution, as ours and in PyTorch (channels-last), in turns in one process, CPU time. The rows
begin with what loses most to PyTorch in a step, count x (ours - PyTorch).
"""

import collections
import functools
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks import configs, inputs, measuring, train_step
from vos_jax.errors import run_main
from vos_jax.models import registry
from vos_jax.ops.convolution import conv2d, pointwise
from vos_jax.ops.cpu import switch
from vos_jax.storage.names import parse_size
from vos_jax.training import flops
from vos_jax.training.optimizer import make_optimizer
from vos_jax.training.step import Objective

PARTS = ('forward', 'gradient by image', 'gradient by kernel')
COLUMNS = 'image kernel stride count part xla_ms ours_ms pytorch_ms loss_ms'


class Layer(NamedTuple):
    """Shapes [N, H, W, C] and [kh, kw, C, D], and settings of a convolution."""

    image: tuple
    kernel: tuple
    stride: int = 1
    padding: int = 0
    dilation: int = 1


def layers_of(spec, size, num_objects):
    """Counter of the convolutions (Layer) of a clip's forward pass, batch 1, (height, width)."""
    config = configs.load_for_device(spec, remat='none')
    model = registry.build(config.model)
    optimizer, _ = make_optimizer(config.optimizer, config.training.steps)
    batch = inputs.make_batch(1, config.data.clip_length, size, num_objects)
    state = train_step.make_state(model, optimizer, batch, ema_decay=0.0)
    objective = Objective(model, config.loss, config.training)
    with switch.using(()):
        traced = jax.make_jaxpr(objective.loss_of)(state.params, state, batch, None, state.step)
    found = collections.Counter()
    for equation, times, _ in flops.products(traced):
        image, kernel = (variable.aval.shape for variable in equation.invars)
        params = equation.params
        if equation.primitive.name == 'conv_general_dilated':
            settings = (params[n][0] for n in ('window_strides', 'padding', 'rhs_dilation'))
            stride, (padding, _), dilation = settings
            found[Layer(image, kernel, stride, padding, dilation)] += times
        elif len(image) == 4 and len(kernel) == 2:  # what models.layers has for 1x1
            found[Layer(image, (1, 1, *kernel))] += times
    return found


def measure(layer, count):
    """Rows of a layer, one for each part: CPU time of the three ways."""
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(shape, np.float32) for shape in layer[:2])
    with switch.using(()):
        shape = jax.eval_shape(lambda x, kernel: conv2d(x, kernel, *layer[2:]), x, kernel).shape
    arrays = x, kernel, rng.standard_normal(shape, np.float32)
    ways = {
        'xla': _in_jax(layer, arrays, (), conv2d),
        'ours': _in_jax(layer, arrays, switch.REPAIRS, _ours),
        'pytorch': _in_pytorch(layer, arrays),
    }
    rows = []
    for part in PARTS:
        if part == PARTS[1] and layer.image[3] == 3:  # a frame, which has none
            continue
        functions = [way[part] for way in ways.values()]
        for function in functions:
            jax.block_until_ready(function())
        times = measuring.take_turns(functions, count)
        row = {f'{way}_ms': float(row['cpu_ms']) for way, row in zip(ways, times, strict=True)}
        rows.append({'part': part} | row)
    return rows


def _ours(x, kernel, *settings):
    is_product = kernel.shape[:2] == (1, 1)  # as in models.layers
    return pointwise(x, kernel[0, 0]) if is_product else conv2d(x, kernel, *settings)


def _in_jax(layer, arrays, repairs, convolve):
    arrays = jax.device_put(arrays)

    def forward(x, kernel, _):
        return convolve(x, kernel, *layer[2:])

    def by_image(x, kernel, cotangent):
        return jax.vjp(lambda x: forward(x, kernel, None), x)[1](cotangent)

    def by_kernel(x, kernel, cotangent):
        return jax.vjp(lambda kernel: forward(x, kernel, None), kernel)[1](cotangent)

    with switch.using(repairs):
        functions = (forward, by_image, by_kernel)
        compiled = [jax.jit(function).lower(*arrays).compile() for function in functions]
    return {part: functools.partial(run, *arrays) for part, run in zip(PARTS, compiled)}


def _in_pytorch(layer, arrays):
    import torch

    torch.set_num_threads(measuring.num_cores())
    x, kernel, cotangent = map(torch.from_numpy, arrays)
    x, cotangent = x.permute(0, 3, 1, 2), cotangent.permute(0, 3, 1, 2)  # channels-last already
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    stride, padding, dilation = ([value] * 2 for value in layer[2:])

    def gradient(*mask):
        backward = torch.ops.aten.convolution_backward
        settings = (stride, padding, dilation, False, [0, 0], 1)
        return lambda: backward(cotangent, x, kernel, None, *settings, [*mask, False])

    functions = (
        lambda: torch.conv2d(x, kernel, None, stride, padding, dilation),
        gradient(True, False),
        gradient(False, True),
    )
    return dict(zip(PARTS, functions))


def main(argv):
    """Measures and prints."""
    del argv
    wanted = flags.FLAGS
    measuring.check_pytorch()
    layers = layers_of(wanted.config, parse_size(wanted.size), wanted.objects)
    rows = []
    for layer, times in layers.items():
        about = layer._asdict() | {'count': times}
        for row in measure(layer, wanted.count):
            loss = times * (row['ours_ms'] - row['pytorch_ms'])
            rows.append(about | row | {'loss_ms': loss})
    rows.sort(key=lambda row: -row['loss_ms'])
    measuring.print_table(rows, COLUMNS)
    ways = ('xla_ms', 'ours_ms', 'pytorch_ms')
    total = {way: sum(row['count'] * row[way] for row in rows) for way in ways}
    print(f'in all, ms: {total}')
    figures = {'benchmark': 'convolution', 'config': wanted.config, 'machine': measuring.machine()}
    measuring.write_json(wanted.json, figures | {'total': total, 'rows': rows})


if __name__ == '__main__':
    flags.DEFINE_string('config', 'configs/stm_resnet50.py', 'FILE[:VARIANT] of the run.')
    flags.DEFINE_string('size', '384x384', 'Crop, WIDTHxHEIGHT.')
    flags.DEFINE_integer('objects', 1, 'Object slots.', lower_bound=1)
    flags.DEFINE_integer('count', 5, 'Calls of each.', lower_bound=1)
    flags.DEFINE_string('json', None, 'JSON file for the figures.')
    run_main(main)
