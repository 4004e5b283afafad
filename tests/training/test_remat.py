"""The policy of rematerialisation that is chosen for the memory of a device."""

import dataclasses

import jax
import pytest

from tests.models.toy import ToySpec
from vos_jax.config.schema import REMAT, Config, DataSpec, MeshSpec, Source, TrainingSpec
from vos_jax.errors import InputError
from vos_jax.planning import roofline, slices
from vos_jax.training import remat
from vos_jax.training.program import Program

CONFIG = Config(
    model=ToySpec(dtype='float32'),
    data=DataSpec(sources=(Source('x'),), batch_size=4, crop=(64, 96), clip_length=5),
)
ONE = (1, 1, 1)


@pytest.fixture(scope='module')
def program():
    return Program(CONFIG, jax.devices()[:1])


@pytest.fixture(scope='module')
def needs(program):
    return remat.Needs(program)


def test_what_recomputes_more_needs_less(needs):
    none, _, step, full = (needs.of(name, ONE) for name in REMAT)
    assert none > step > full > 0


@pytest.mark.parametrize('name', REMAT)
def test_the_first_policy_that_fits_is_taken(needs, name):
    limit = needs.of(name, ONE) / remat.SHARE
    fitting = [other for other in REMAT if needs.of(other, ONE) <= needs.of(name, ONE)]
    assert remat.cheapest(needs, ONE, limit) == fitting[0]


def test_a_device_without_a_limit_keeps_everything_and_too_small_a_one_nothing(needs):
    assert remat.cheapest(needs, ONE, None) == 'none'
    assert remat.cheapest(needs, ONE, 1) == 'full'


def test_devices_and_parts_share_what_is_kept_but_not_the_weights(program, needs):
    whole, state = needs.of('none', ONE), remat.bytes_of(program.state)
    shared = state + remat.bytes_of(program.state.params)
    assert needs.of('none', (2, 1, 2)) == shared + (whole - shared) / 4
    training = TrainingSpec(accumulate=4)
    in_parts = Program(dataclasses.replace(CONFIG, training=training), jax.devices()[:1])
    assert remat.Needs(in_parts).of('none', ONE) == needs.of('none', (4, 1, 1))


@pytest.mark.parametrize('topology', ['v4:2x2x2x2', 'v5p:4x4', 'v5e:2x2x1', 'v5e:'])
def test_a_slice_has_as_many_sides_as_its_kind(topology):
    with pytest.raises(InputError, match=r'KIND one of v4 \(3 sides\), v5e \(2 sides\)'):
        slices.parse_topology(topology)


def test_the_estimate_is_near_what_xla_plans(program, needs):
    plan = program.trace().lower().compile().memory_analysis()
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes
    assert 0.5 < needs.of('none', ONE) / planned < 2


def test_a_cpu_recomputes_nothing_unless_told_to(program):
    assert program.config.training.remat == 'none'
    training = TrainingSpec(remat='step')
    told = Program(dataclasses.replace(CONFIG, mesh=MeshSpec(), training=training))
    assert told.config.training.remat == 'step'


def test_a_plan_gives_each_mesh_the_policy_that_fits_its_chips(needs, monkeypatch, capsys):
    # A chip holds what 'step' needs on one of it, and less than 'none' and 'products' do.
    small = roofline.CHIPS['v5e']._replace(memory_bytes=needs.of('step', ONE) / remat.SHARE)
    monkeypatch.setitem(roofline.CHIPS, 'v5e', small)
    config = dataclasses.replace(CONFIG, training=TrainingSpec(remat='auto'))
    for topology, policy in (('v5e:1x1', 'step'), ('v5e:2x2', 'none')):
        assert slices.plan(config, topology, is_compiled=False)['remat'] == policy
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.endswith(f'remat {policy}')
        (taken,) = [line for line in lines if line.endswith('<- taken')]
        assert f' {policy} ' in taken
