"""The one-way imports of pyproject.toml, and what each layer may load."""

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
LINT_IMPORTS = BIN / 'lint-imports'


def test_imports_go_one_way():
    if not LINT_IMPORTS.exists():
        pytest.skip('import-linter is not installed: pip install -r requirements-dev.txt')
    root = Path(__file__).resolve().parent.parent
    result = subprocess.run(
        [LINT_IMPORTS, '--no-logo', '--no-cache'], cwd=root, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


LOADED = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
    if module.name not in sys.argv[3:]:
        importlib.import_module(module.name)
print(sorted(set(sys.argv[2].split(',')) & set(sys.modules)))
"""


def loaded(run_python, package, unwanted, *left_out):
    """Those of the unwanted modules that importing all of a package has loaded."""
    result = run_python(LOADED, package, ','.join(unwanted), *left_out)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_reading_data_loads_no_jax(run_python):
    assert loaded(run_python, 'vos_jax.data', ['jax', 'flax', 'tensorflow']) == '[]'


def test_scoring_masks_loads_no_jax(run_python):
    unwanted = ['jax', 'flax', 'tensorflow']
    assert loaded(run_python, 'vos_jax.evaluation', unwanted, 'vos_jax.evaluation.run') == '[]'


@pytest.mark.parametrize('package', ['vos_jax.ops', 'vos_jax.models', 'vos_jax.inference'])
def test_models_and_inference_need_only_jax_and_flax(run_python, package):
    unwanted = ['clu', 'grain', 'tensorboard', 'ml_collections', 'torch', 'tensorflow']
    assert loaded(run_python, package, unwanted) == '[]'
