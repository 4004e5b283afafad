"""Which operations a program has: the repairs on CPUs, the plain ones on GPUs and TPUs."""

import collections
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import pytest

from vos_jax.errors import InputError
from vos_jax.inference import temporal
from vos_jax.models import protocol
from vos_jax.models.cfbi.model import CFBI
from vos_jax.models.cfbi.spec import CFBISpec
from vos_jax.models.giel.model import GIEL
from vos_jax.models.giel.spec import GIELSpec
from vos_jax.models.stm.model import STM
from vos_jax.models.stm.spec import STMSpec
from vos_jax.ops.cpu import switch
from vos_jax.training.unroll import unroll

SIZE, SLOTS = (240, 432), 2  # 113 x 161 cells of CFBI, 15 x 27 of the others


def shallow(spec, part, depths):
    """The published widths with one block in each stage: the operations, less to trace."""
    return dataclasses.replace(
        spec, **{part: dataclasses.replace(getattr(spec, part), depths=depths)}
    )


MODELS = {
    'giel': GIEL(shallow(GIELSpec(), 'encoder', (1, 1, 1))),
    'stm': STM(shallow(STMSpec(), 'encoder', (1, 1, 1))),
    'cfbi': CFBI(shallow(CFBISpec(), 'backbone', (1, 1, 1, 1))),
}
like = jax.ShapeDtypeStruct


@functools.cache
def arguments(name):
    """Shapes: variables, frames u8[1, 3, H, W, 3], masks f32[1, K, H, W], objects bool[1, K]."""
    frames = like((1, 3, *SIZE, 3), jnp.uint8)
    masks, objects = like((1, SLOTS, *SIZE), jnp.float32), like((1, SLOTS), bool)
    init = functools.partial(MODELS[name].init, jax.random.key(0))
    return (
        jax.eval_shape(init, like((1, *SIZE, 3), jnp.uint8), masks, objects),
        frames,
        masks,
        objects,
    )


def frame_step(name):
    """Frame step of inference, jitted, and its arguments."""
    model, (variables, _, masks, objects) = MODELS[name], arguments(name)
    frame, now = like((1, *SIZE, 3), jnp.uint8), like((1,), jnp.int32)

    def step(variables, frame, masks, objects, now):
        features = model.apply(variables, frame, method='encode')
        given = protocol.given_masks(masks)
        previous = temporal.Previous(frame, features, given, now)
        memory, _ = temporal.memorise(model, variables, previous, objects)
        return temporal.temporal_step(
            model, variables, memory, previous, features, objects, position=0, time=now + 1
        )[0].logits

    return jax.jit(step), (variables, frame, masks, objects, now)


def train_step(name):
    """Gradient of a clip's logits, jitted, and its arguments."""
    model, (variables, frames, masks, objects) = MODELS[name], arguments(name)

    def loss(params, rest, frames, masks, objects):
        outputs, _ = unroll(model, {'params': params, **rest}, frames, masks, objects, train=True)
        return jnp.square(outputs['logits']).mean()

    rest = {name: part for name, part in variables.items() if name != 'params'}
    return jax.jit(jax.grad(loss)), (variables['params'], rest, frames, masks, objects)


@functools.cache
def traced(name, part, repaired):
    """The traced program."""
    function, args = {'frame': frame_step, 'train': train_step}[part](name)
    with switch.using(switch.REPAIRS if repaired else ()):
        return function.trace(*args)


@functools.cache
def lowered(name, part, platform, repaired=True):
    """Text of the program for a platform."""
    return traced(name, part, repaired).lower(lowering_platforms=(platform,)).as_text()


def products(text):
    """How often each convolution and matrix product occurs, by its settings and shapes."""
    lines = re.findall(r'stablehlo\.(?:convolution|dot_general)(.*)', text)
    return collections.Counter(re.sub(r'%\w+(#\d+)?', '', line) for line in lines)


CASES = [(name, part) for name in MODELS for part in ('frame', 'train')]
# Its gradients are of the same convolutions and products as the others', and twice as many.
CASES[-1] = pytest.param(*CASES[-1], marks=pytest.mark.slow)


@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
@pytest.mark.parametrize(('name', 'part'), CASES)
def test_programs_for_accelerators_have_the_plain_products_alone(name, part, platform):
    plain = lowered(name, part, 'tpu', repaired=False)
    assert products(lowered(name, part, platform)) == products(plain)


@pytest.mark.parametrize(('name', 'part'), CASES)
def test_programs_for_cpus_have_the_repaired_products(name, part):
    repaired = products(lowered(name, part, 'cpu'))
    assert repaired != products(lowered(name, part, 'tpu'))
    assert any('(tensor<36x' in line for line in repaired)  # Winograd's products


@pytest.mark.parametrize('name', ['giel', 'stm'])
def test_programs_for_cpus_have_convolutions_in_the_form_that_is_quick_in_loops(name):
    lines = re.findall(r'stablehlo\.convolution.*', lowered(name, 'train', 'cpu'))
    assert len(lines) > 10
    assert all('[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]' in line for line in lines)


def test_without_repairs_no_rule_of_ours_stands_between_a_convolution_and_its_gradient():
    text = str(traced('stm', 'train', repaired=False).jaxpr)
    assert 'custom_vjp' not in text
    assert 'platform_index' not in text


def test_repairs_are_chosen_by_name(monkeypatch):
    def chosen(text):
        monkeypatch.setenv(switch.VARIABLE, text)
        return tuple(name for name in switch.REPAIRS if switch.has(name))

    assert chosen('1') == switch.REPAIRS
    assert chosen('0') == ()
    assert chosen('winograd, tiles') == ('tiles', 'winograd')
    with pytest.raises(InputError, match="VOS_CPU_REPAIRS has 'winogrd'; needed: 0, 1 or some of"):
        chosen('winogrd')


def test_a_program_traced_under_another_choice_is_traced_anew():
    function = jax.jit(lambda x: switch.on_cpu('tiles', jnp.sin, jnp.cos, x) + 1)
    x = jnp.ones(3)
    with switch.using(('tiles',)):
        assert 'platform_index' in str(function.trace(x).jaxpr)
    with switch.using(()):
        assert 'platform_index' not in str(function.trace(x).jaxpr)
