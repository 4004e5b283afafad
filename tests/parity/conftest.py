import jax
import pytest

from tests.parity import cfbi_records


@pytest.fixture(scope='session')
def cfbi_state_dict(shared):
    """The released CFBI weights, made by rule."""
    return cfbi_records.state_dict(shared('parity'))


@pytest.fixture(scope='session')
def cfbi_variables(cfbi_state_dict):
    return jax.device_put(cfbi_records.variables_of(cfbi_state_dict))


@pytest.fixture(scope='session')
def records(shared):
    return cfbi_records.Records(shared('parity/cfbi_forward.npz'))
