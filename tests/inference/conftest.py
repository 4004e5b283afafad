import jax
import pytest


@pytest.fixture(scope='module', autouse=True)
def quick_compilation():
    """Compiles quickly, as `tiny.quick_jit`, what the product compiles itself."""
    before = jax.config.read('jax_disable_most_optimizations')
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', before)
