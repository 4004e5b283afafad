import dataclasses

import jax.numpy as jnp
import pytest

from tests.models.tiny import SPEC
from vos_jax import recipe
from vos_jax.errors import InputError
from vos_jax.models import registry
from vos_jax.models.giel.model import GIEL

SETTINGS = {**dataclasses.asdict(SPEC), 'dtype': 'bfloat16'}
MODEL = GIEL(dataclasses.replace(SPEC, dtype='bfloat16'), jnp.bfloat16)


def build(settings):
    return registry.build(registry.read_model(settings))


def test_settings_become_a_module():
    assert build(SETTINGS) == MODEL


def test_lists_serve_as_tuples():
    encoder = {**SETTINGS['encoder'], 'depths': [1, 1, 1]}
    assert build({**SETTINGS, 'encoder': encoder}) == MODEL


@pytest.mark.parametrize('variant', ['giel_small.py:full', 'giel_small.py:tiny'])
def test_each_config_names_a_model(variant):
    assert registry.build(recipe.load(f'configs/{variant}').model).stride == 8


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        ({'name': 'gial'}, "'model.name' is 'gial'; one of .*'giel'"),
        ({'dtype': 'float16'}, "'model.dtype' is 'float16'; one of 'auto', 'float32', 'bfloat16'"),
        ({'varient': 'fast'}, "'model.varient' is not a setting; nearest: 'model.variant'"),
        ({'variant': 'fats'}, "'model.variant' is 'fats'; one of 'full', 'fast'"),
        ({'label_downsample': 'strided'}, "'model.label_downsample' is 'strided'.*stride 8"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(changes, line):
    with pytest.raises(InputError, match=line):
        registry.read_model({**SETTINGS, **changes})


def test_a_wrong_setting_of_the_encoder_is_refused_with_its_group():
    encoder = {**SETTINGS['encoder'], 'width': 3}
    with pytest.raises(InputError, match=r"'model.encoder.width'.*nearest: 'model.encoder.widths'"):
        build({**SETTINGS, 'encoder': encoder})
