import jax
import numpy as np
import pytest

from tests.parity import cfbi_records, generated


@pytest.fixture(scope='session')
def cfbi_state_dict(shared):
    """The released CFBI weights, made by rule."""
    return generated.state_dict(shared('parity/cfbi_names.json'))


@pytest.fixture(scope='session')
def cfbi_variables(cfbi_state_dict):
    return jax.device_put(cfbi_records.variables_of(cfbi_state_dict))


@pytest.fixture(scope='session')
def stm_clip(shared):
    """Returns a function: name of a clip -> the record, its frames, its given mask; or a skip."""
    record = np.load(shared('parity/stm_forward.npz'))

    def find(clip):
        if f'{clip}/frames' not in record:
            pytest.skip(f'clip {clip} is in the full records alone; VOS_SHARED may name them')
        return record, record[f'{clip}/frames'], record[f'{clip}/first_label']

    return find


@pytest.fixture(scope='session')
def records(shared):
    return cfbi_records.Records(shared('parity/cfbi_forward.npz'))
