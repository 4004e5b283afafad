import json

import pytest
from absl import flags

from vos_jax import recipe, weights
from vos_jax.config.schema import MemorySpec, MeshSpec, OptimizerSpec, Source, TrainingSpec
from vos_jax.errors import InputError
from vos_jax.models.registry import read_config

FILE = """
from ml_collections import ConfigDict

VARIANTS = ('full', 'tiny')

def get_config(variant='full'):
    return ConfigDict(dict(
        model=dict(
            name='stm',
            key_channels=48 if variant == 'full' else 8,
            encoder=dict(strides=(2, 2, 1)),
        ),
        data=dict(
            sources=dict(davis=dict(root='a')), batch_size=4, crop=(32, 48), scale=(1, 2),
        ),
        training=dict(log_every=20),
    ))
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(FILE)
    return str(path)


def test_variant_goes_to_get_config(spec):
    assert recipe.load(spec).model.key_channels == 48
    assert recipe.load(f'{spec}:tiny').model.key_channels == 8


def test_what_a_recipe_leaves_out_has_the_defaults_of_the_schema(spec):
    config = recipe.load(spec)
    assert config.optimizer == OptimizerSpec()
    assert config.training == TrainingSpec(log_every=20)
    assert config.data.sources == (Source('a', 'davis'),)


def test_overrides_take_the_type_of_their_setting(spec):
    config = recipe.load(
        spec,
        [
            'optimizer.learning_rate=1',
            'data.skip_broken=true',
            'model.encoder.strides=(2, 1, 1)',
            'data.sources.davis.root=runs/a',
            'data.sources.davis.weight=2',
            'loss.hardest=((0, 1.0), (40, 0.5))',
        ],
    )
    assert config.optimizer.learning_rate == 1.0
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.data.skip_broken is True
    assert config.model.encoder.strides == (2, 1, 1)
    assert config.data.sources == (Source('runs/a', 'davis', weight=2.0),)
    assert config.loss.hardest == ((0, 1.0), (40, 0.5))


def test_sources_without_names_are_overridden_by_their_place(tmp_path):
    path = tmp_path / 'listed.py'
    path.write_text(FILE.replace("dict(davis=dict(root='a'))", "[dict(root='a'), dict(root='b')]"))
    config = recipe.load(str(path), ['data.sources[1].root=c'])
    assert config.data.sources == (Source('a'), Source('c'))


def test_a_setting_that_is_none_takes_any_value_and_else_stays_none(spec):
    key = 'data.sources.davis.resolution'
    assert recipe.load(spec, [f'{key}=240p']).data.sources[0].resolution == '240p'
    assert recipe.load(spec, ['seed=1']).data.sources[0].resolution is None


def test_loads_do_not_share_values(spec):
    recipe.load(spec, ['model.key_channels=1'])
    assert recipe.load(spec).model.key_channels == 48


def test_unknown_key_names_the_nearest(spec):
    with pytest.raises(InputError) as caught:
        recipe.load(spec, ['optimizer.learning_rat=1e-4'])
    assert str(caught.value) == (
        f"{spec}: 'optimizer.learning_rat' is not a setting; nearest: 'optimizer.learning_rate'"
    )


def test_an_unknown_key_of_a_group_lists_those_of_the_group(spec):
    with pytest.raises(InputError, match=r"'optimizer\.lr' is not .* there are optimizer\.\w+,"):
        recipe.load(spec, ['optimizer.lr=1e-4'])


def test_an_unknown_key_of_the_file_names_file_and_nearest(spec, tmp_path):
    (tmp_path / 'small.py').write_text(FILE.replace('log_every', 'log_evry'))
    with pytest.raises(InputError) as caught:
        recipe.load(spec)
    assert str(caught.value) == (
        f"{spec}: 'training.log_evry' is not a setting; nearest: 'training.log_every'"
    )


@pytest.mark.parametrize('key', ['optimiser.learning_rate', 'seed.x', 'x[0].weight'])
def test_unknown_keys_at_any_depth_are_refused(spec, key):
    with pytest.raises(InputError, match='is not a setting; nearest'):
        recipe.load(spec, [f'{key}=1'])


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('model.key_channels=wide', 'model.key_channels=wide'),
        ('data.skip_broken=3', 'skip_broken'),
        ('training.keep=0', r"'training\.keep' is 0; needed: a whole number from 2 to 10000"),
        ('model.compat=old', r"'model\.compat' is 'old'; one of 'contract', 'release'"),
        (
            'data.crop=(32,)',
            r"'data\.crop' is \(32,\); needed: 2 values, each a whole",
        ),
        ('data.rotation=nan', r"'data\.rotation' is nan; needed: a finite number from 0 to 180"),
    ],
)
def test_a_value_that_a_setting_may_not_have_is_refused_in_one_line(spec, override, words):
    with pytest.raises(InputError, match=words) as caught:
        recipe.load(spec, [override])
    assert '\n' not in str(caught.value)


def test_missing_file_lists_the_configs_there(spec, tmp_path):
    with pytest.raises(InputError, match=r'smal\.py: no such file; .* has small\.py; by name: '):
        recipe.load(str(tmp_path / 'smal.py'))


def test_unknown_variant_lists_those_there_are(spec):
    with pytest.raises(InputError, match="variant 'huge' is not one of full, tiny"):
        recipe.load(f'{spec}:huge')


def test_the_flag_reads_file_and_overrides(spec):
    argv = ['train.py', f'--config={spec}:tiny', '--config.seed=3']
    values = flags.FlagValues()
    holder = recipe.define_flag(flag_values=values, argv=argv)
    values(argv)
    config = read_config(holder.value)
    assert (config.model.key_channels, config.seed) == (8, 3)


def test_the_flag_refuses_an_unknown_key_with_the_nearest(spec):
    argv = ['train.py', f'--config={spec}', '--config.sed=3']
    values = flags.FlagValues()
    recipe.define_flag(flag_values=values, argv=argv)
    with pytest.raises(
        flags.IllegalFlagValueError, match="'sed' is not a setting; nearest: 'seed'"
    ):
        values(argv)


def test_stored_config_is_the_one_saved_whole(spec, tmp_path):
    config = recipe.load(spec)
    recipe.save(config, tmp_path / 'run')
    assert recipe.stored(tmp_path / 'run') == config
    values = json.loads((tmp_path / 'run/config.json').read_text())
    assert values['optimizer']['momentum'] == 0.9  # a default
    assert values['data']['sources']['davis']['root'] == 'a'


def test_a_config_from_before_a_setting_existed_has_its_default(spec, tmp_path):
    recipe.save(recipe.load(spec), tmp_path)
    path = tmp_path / 'config.json'
    values = json.loads(path.read_text())
    del values['mesh'], values['training']['accumulate'], values['data']['min_pixels']
    del values['model']['encoder']['kind']
    path.write_text(json.dumps(values))
    assert recipe.stored(tmp_path) == recipe.load(spec)


def test_a_folder_without_config_says_what_a_workdir_is(tmp_path):
    with pytest.raises(InputError, match=r'config\.json: no such file; name the folder of a run'):
        recipe.stored(tmp_path)
    (tmp_path / 'checkpoints').mkdir()
    with pytest.raises(InputError, match=r'config\.json: no such file beside .* restore the file'):
        recipe.stored(tmp_path)


def test_a_damaged_stored_config_is_refused(tmp_path):
    (tmp_path / 'config.json').write_text('{"model": ')
    with pytest.raises(InputError, match=r'config\.json: not a stored config'):
        recipe.stored(tmp_path)


def test_a_stored_config_with_a_wrong_value_names_file_and_setting(spec, tmp_path):
    recipe.save(recipe.load(spec), tmp_path)
    path = tmp_path / 'config.json'
    path.write_text(path.read_text().replace('"seed": 0', '"seed": -1'))
    with pytest.raises(InputError, match=r"config\.json: not a stored config \('seed' is -1;"):
        recipe.stored(tmp_path)


@pytest.mark.parametrize('override', ['model.key_channels=64', 'seed=1'])
def test_resuming_as_another_model_or_seed_is_refused_by_key(spec, tmp_path, override):
    recipe.save(recipe.load(spec), tmp_path)
    with pytest.raises(InputError, match=rf"this run has '{override.split('=')[0]}'"):
        recipe.changes(recipe.load(spec, [override]), tmp_path)


def test_resuming_with_other_intervals_is_allowed_and_reported(spec, tmp_path):
    recipe.save(recipe.load(spec), tmp_path)
    changed = recipe.load(spec, ['training.log_every=5'])
    assert recipe.changes(changed, tmp_path) == ['training.log_every: 20 -> 5']


def test_a_run_of_another_type_is_not_resumed_but_that_of_the_device_may_have_been_named(
    spec, tmp_path
):
    for_gpu, for_cpu = (recipe.load(spec, [f'model.dtype={t}']) for t in ('bfloat16', 'float32'))
    recipe.save(for_cpu, tmp_path)
    with pytest.raises(InputError, match=r"this run has 'model\.dtype' 'float32'"):
        recipe.changes(for_gpu, tmp_path)
    recipe.save(recipe.load(spec), tmp_path)  # 'auto'
    assert recipe.changes(for_cpu, tmp_path) == recipe.changes(for_gpu, tmp_path) == []


def test_resuming_unchanged_reports_nothing(spec, tmp_path):
    recipe.save(recipe.load(spec), tmp_path)
    assert recipe.changes(recipe.load(spec), tmp_path) == []


def test_the_config_in_the_weights_of_the_last_form_is_read():
    loaded = weights.load_weights(weights.find('giel_small'))
    config = read_config(loaded.config)
    assert config.model.decoder_channels == 32
    assert config.inference.memory == MemorySpec(size=8)
    assert config.mesh == MeshSpec()  # younger than the file
