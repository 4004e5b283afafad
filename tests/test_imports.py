"""The one-way imports of pyproject.toml, and what each layer may load."""

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
LINT_IMPORTS = BIN / 'lint-imports'


def test_imports_go_one_way():
    if not LINT_IMPORTS.exists():
        pytest.skip('import-linter is not installed: pip install -e .[dev]')
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run(
        [LINT_IMPORTS, '--no-logo', '--no-cache'], cwd=root, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


IMPORT_WITHOUT = """
import importlib, pkgutil, sys
package, absent, left_out = sys.argv[1], sys.argv[2].split(','), sys.argv[3:]
sys.modules.update(dict.fromkeys(absent))  # None: as if it were not installed
package = importlib.import_module(package)
for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
    if module.name not in left_out:
        importlib.import_module(module.name)
"""

ARRAYS = ['jax', 'jaxlib', 'flax', 'optax', 'orbax', 'tensorflow', 'torch']
TOOLS = ['clu', 'grain', 'tensorboard', 'ml_collections', 'tensorflow', 'torch']


@pytest.mark.parametrize(
    ('package', 'absent', 'left_out'),
    [
        ('vos_jax.data', ARRAYS, []),
        ('vos_jax.evaluation', ARRAYS, ['vos_jax.evaluation.run']),
        ('vos_jax.ops', TOOLS, []),
        ('vos_jax.models', TOOLS, []),
        ('vos_jax.inference', TOOLS, []),
    ],
)
def test_a_layer_imports_without_what_it_must_not_need(run_python, package, absent, left_out):
    result = run_python(IMPORT_WITHOUT, package, ','.join(absent), *left_out)
    assert result.returncode == 0, result.stderr
