"""One rule for the type that a model computes in, and one setting for float32 products."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from jax import export

from tests.models import tiny
from tests.models.toy import Toy, ToySpec
from vos_jax.config.schema import Config, DataSpec, Source
from vos_jax.inference.program import stablehlo
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import registry
from vos_jax.planning import slices
from vos_jax.trained import TrainedModel
from vos_jax.training import step as steps

SCENE = tiny.clip(length=2, size=(16, 24))


@pytest.mark.parametrize(
    ('platforms', 'dtype'),
    [
        (('cpu',), 'float32'),
        (('gpu',), 'bfloat16'),
        (('tpu',), 'bfloat16'),
        (('cuda', 'tpu'), 'bfloat16'),
        (('cpu', 'cuda', 'tpu'), 'float32'),
    ],
)
def test_the_platforms_that_compute_decide_the_type(platforms, dtype):
    assert ToySpec().resolved(*platforms).dtype == dtype
    assert ToySpec(dtype='bfloat16').resolved(*platforms).dtype == 'bfloat16'


def trained(**settings):
    """An untrained toy as a trained model."""
    config = Config(model=ToySpec(), **settings)
    variables = tiny.variables_of(registry.build(config.model))
    return TrainedModel(config, variables, {'weights': 'toy.npz'})


def test_a_program_for_accelerators_computes_in_bfloat16_wherever_it_is_exported(tmp_path):
    texts = {}
    for platforms in (('cuda', 'tpu'), ('cpu', 'tpu')):
        model = trained(precision='float32').on(*platforms)
        folder = tmp_path / platforms[0]
        stablehlo.export_step(model.segmenter(), folder, (16, 24), 1, platforms=platforms)
        program = export.deserialize(bytearray((folder / 'step.jax_export').read_bytes()))
        texts[platforms[0]] = program.mlir_module()
    assert 'bf16' in texts['cuda']
    assert 'bf16' not in texts['cpu']
    assert 'HIGHEST' in texts['cuda']
    assert 'HIGHEST' in texts['cpu']


def test_a_plan_for_a_tpu_counts_bfloat16_on_a_cpu(capsys):
    data = DataSpec((Source('x'),), batch_size=4, crop=(16, 24), clip_length=2)
    slices.plan(trained(data=data).config, 'v5e-4', is_compiled=False)
    assert capsys.readouterr().out.splitlines()[0].endswith('in bfloat16, remat none')


def products(precision):
    """Programs of an encoding and a train step, as text."""
    config = dataclasses.replace(trained().config, precision=precision)
    video = Segmenter.from_config(config, trained().variables)
    model, params = Toy(ToySpec()), trained().variables['params']
    state = steps.TrainState(np.int32(0), params, {}, {}, optax.sgd(0.1).init(params))
    step = steps.make_train_step(model, optax.sgd(0.1), config)
    encoding = jax.make_jaxpr(video.program.encode)(SCENE['frames'][:, 0])
    return str(encoding), str(jax.make_jaxpr(step)(state, SCENE))


def test_a_setting_says_how_float32_products_are_computed():
    for plain, exact, fast in zip(*map(products, ('auto', 'float32', 'tensorfloat32'))):
        assert 'HIGH' not in plain
        assert 'HIGHEST' in exact
        assert 'HIGH' in fast
        assert 'HIGHEST' not in fast


def test_what_is_printed_names_both():
    model = trained(precision='tensorfloat32').on('cpu')
    assert model.config.computes_in == 'float32, float32 products in tensorfloat32'
