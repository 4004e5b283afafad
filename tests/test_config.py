import textwrap

import pytest
from absl import flags

from vos_jax.config import recipe as configs
from vos_jax.errors import InputError

FILE = """
from ml_collections import ConfigDict

def get_config(variant='full'):
    if variant not in ('full', 'tiny'):
        raise ValueError(f"variant '{variant}' is not one of full, tiny")
    return ConfigDict(dict(
        seed=0,
        model=dict(name='giel', width=48 if variant == 'full' else 8, strides=(2, 2, 1)),
        optimizer=dict(learning_rate=1e-3, clip=None, nesterov=False),
        data=dict(roots=('a',), sources=(dict(kind='davis', weight=1.0),)),
        log_every=20,
    ))
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(textwrap.dedent(FILE))
    return str(path)


def test_variant_goes_to_get_config(spec):
    assert configs.load(spec).model.width == 48
    assert configs.load(f'{spec}:tiny').model.width == 8


def test_overrides_take_the_type_of_their_setting(spec):
    config = configs.load(
        spec,
        [
            'optimizer.learning_rate=1',
            'optimizer.nesterov=true',
            'model.strides=(2, 1)',
            'data.roots=runs/a',
            'data.sources[0].weight=2',
        ],
    )
    assert config.optimizer.learning_rate == 1.0
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.optimizer.nesterov is True
    assert config.model.strides == (2, 1)
    assert config.data.roots == ('runs/a',)
    assert config.data.sources[0]['weight'] == 2


def test_a_setting_that_is_none_takes_any_value_and_else_stays_none(spec):
    assert configs.load(spec, ['optimizer.clip=10.0']).optimizer.clip == 10.0
    assert configs.load(spec).optimizer.clip is None


def test_loads_do_not_share_values(spec):
    configs.load(spec, ['model.width=1'])
    assert configs.load(spec).model.width == 48


def test_unknown_key_names_the_nearest(spec):
    with pytest.raises(InputError) as caught:
        configs.load(spec, ['optimizer.learning_rat=1e-4'])
    assert str(caught.value) == (
        f"{spec}: 'optimizer.learning_rat' is not a setting; nearest: 'optimizer.learning_rate'"
    )


@pytest.mark.parametrize('key', ['optimiser.learning_rate', 'model.width.x', 'x[0].weight'])
def test_unknown_keys_at_any_depth_are_refused(spec, key):
    with pytest.raises(InputError, match='is not a setting; nearest'):
        configs.load(spec, [f'{key}=1'])


@pytest.mark.parametrize(
    ('override', 'words'),
    [('model.width=wide', 'model.width=wide'), ('optimizer.nesterov=3', 'nesterov')],
)
def test_value_of_another_type_is_refused_in_one_line(spec, override, words):
    with pytest.raises(InputError, match=words) as caught:
        configs.load(spec, [override])
    assert '\n' not in str(caught.value)


def test_missing_file_lists_the_configs_there(spec, tmp_path):
    with pytest.raises(InputError, match=r'smal\.py: no such file; .* has small\.py$'):
        configs.load(str(tmp_path / 'smal.py'))


def test_unknown_variant_lists_those_there_are(spec):
    with pytest.raises(InputError, match="variant 'huge' is not one of full, tiny"):
        configs.load(f'{spec}:huge')


def test_a_locked_config_refuses_new_settings_in_code(spec):
    with pytest.raises(AttributeError):
        configs.load(spec).model.widht = 3


def test_the_flag_reads_file_and_overrides(spec):
    argv = ['train.py', f'--config={spec}:tiny', '--config.seed=3']
    values = flags.FlagValues()
    holder = configs.define_flag(flag_values=values, argv=argv)
    values(argv)
    assert (holder.value.model.width, holder.value.seed) == (8, 3)


def test_the_flag_refuses_an_unknown_key_with_the_nearest(spec):
    argv = ['train.py', f'--config={spec}', '--config.sed=3']
    values = flags.FlagValues()
    configs.define_flag(flag_values=values, argv=argv)
    with pytest.raises(
        flags.IllegalFlagValueError, match="'sed' is not a setting; nearest: 'seed'"
    ):
        values(argv)


def test_stored_config_is_the_one_saved(spec, tmp_path):
    config = configs.load(spec)
    configs.save(config, tmp_path / 'run')
    assert configs.stored(tmp_path / 'run').to_dict() == config.to_dict()
    assert isinstance(configs.stored(tmp_path / 'run').data.sources, tuple)


def test_a_folder_without_config_says_what_a_workdir_is(tmp_path):
    with pytest.raises(InputError, match=r'config\.json: no such file; --workdir names'):
        configs.stored(tmp_path)


def test_a_damaged_stored_config_is_refused(tmp_path):
    (tmp_path / 'config.json').write_text('{"model": ')
    with pytest.raises(InputError, match=r'config\.json: not a stored config'):
        configs.stored(tmp_path)


@pytest.mark.parametrize('override', ['model.width=64', 'seed=1'])
def test_resuming_as_another_model_or_seed_is_refused_by_key(spec, tmp_path, override):
    configs.save(configs.load(spec), tmp_path)
    with pytest.raises(InputError, match=rf"this run has '{override.split('=')[0]}'"):
        configs.record(configs.load(spec, [override]), tmp_path, resuming=True)
    assert configs.stored(tmp_path).to_dict() == configs.load(spec).to_dict()


def test_resuming_with_other_intervals_is_allowed_and_said(spec, tmp_path):
    configs.save(configs.load(spec), tmp_path)
    changed = configs.load(spec, ['log_every=5'])
    assert configs.record(changed, tmp_path, resuming=True) == ['log_every: 20 -> 5']
    assert configs.stored(tmp_path).log_every == 5


def test_resuming_unchanged_says_nothing(spec, tmp_path):
    configs.save(configs.load(spec), tmp_path)
    assert configs.record(configs.load(spec), tmp_path, resuming=True) == []


def test_a_run_without_checkpoint_may_start_as_another_model(spec, tmp_path):
    configs.save(configs.load(spec), tmp_path)
    configs.record(configs.load(f'{spec}:tiny'), tmp_path, resuming=False)
    assert configs.stored(tmp_path).model.width == 8
