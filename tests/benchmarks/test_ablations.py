"""Every row of the tables of ablations is one that can be trained and evaluated."""

import pytest

from benchmarks import ablations

SPECS = {
    'giel': 'configs/giel_lite.py:fast,stills=0,steps=400',
    'cfbi': 'configs/cfbi_small.py:lite_brief',
}


@pytest.mark.parametrize('row', ablations.ROWS, ids=lambda row: row.title)
def test_its_settings_are_valid_and_change_the_config(row):
    config = ablations.read(row, SPECS[row.model], init='')
    full = ablations.read(ablations.choose([row.model])[0], SPECS[row.model], init='')
    # Five frames, as support_5 has, are the default.
    assert (config == full) == (row.name in (ablations.FULL, 'support_5'))
