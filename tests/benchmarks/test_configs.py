import json
from pathlib import Path

import pytest

from benchmarks import configs
from vos_jax import recipe
from vos_jax.config import plain
from vos_jax.errors import InputError

SPECS = sorted(str(path) for path in Path('configs').glob('*.py'))
PRINT = """
import sys
from benchmarks import configs
from vos_jax.config import plain
print(plain.dumps({spec: configs.load(spec) for spec in sys.argv[1:]}))
"""


@pytest.mark.parametrize('spec', [*SPECS, *(f'{spec}:tiny' for spec in SPECS)])
def test_a_config_reads_as_the_commands_read_it(spec):
    assert configs.load(spec) == recipe.load(spec)


def test_configs_read_the_same_without_ml_collections(run_command, bare):
    specs = [*SPECS, *(f'{spec}:tiny' for spec in SPECS)]
    result = run_command('-c', PRINT, *specs, **bare)
    assert result.returncode == 0, result.stderr
    found = plain.loads(result.stdout)
    assert found == {spec: plain.to_plain(configs.load(spec)) for spec in specs}


@pytest.mark.parametrize(('wanted', 'given'), [('', 'float32'), ('bfloat16', 'bfloat16')])
def test_a_cpu_computes_in_float32_unless_told_otherwise(wanted, given):
    config = configs.load_for_device('configs/giel_resnet50.py', wanted)
    assert config.model.dtype == given


@pytest.mark.parametrize(
    ('spec', 'told'),
    [
        ('configs/giel_smal.py', 'no such file; configs/ has'),
        ('configs/giel_small.py:huge', 'huge'),
    ],
)
def test_a_wrong_name_is_refused_with_what_there_is(spec, told):
    with pytest.raises(InputError, match=told):
        configs.load(spec)


def test_figures_are_written_with_four_decimals(tmp_path):
    from benchmarks import measuring

    measuring.write_json(tmp_path / 'a.json', {'rows': [{'ms': 1.23456789, 'objects': 3}]})
    assert json.loads((tmp_path / 'a.json').read_text()) == {'rows': [{'ms': 1.2346, 'objects': 3}]}
