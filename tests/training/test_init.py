"""Fresh runs that start from given weights."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.models import tiny, tiny_cfbi
from vos_jax import weights
from vos_jax.config.schema import OptimizerSpec
from vos_jax.errors import InputError
from vos_jax.models.cfbi.spec import LiteDeepLabSpec
from vos_jax.models.resnet import Encoder
from vos_jax.training import initial_weights, step
from vos_jax.training.optimizer import make_optimizer

warm_start = functools.partial(
    initial_weights.warm_start, encoders=('query_encoder', 'support_encoder')
)
FROZEN = dataclasses.replace(tiny.SPEC.encoder, norm='frozen_bn')


def state_of(model, ema=True, shapes=None):
    """A state with numbers that follow from names."""
    variables = tiny.fill(shapes) if shapes else tiny.variables_of(model)
    optimizer, _ = make_optimizer(OptimizerSpec(learning_rate=1e-3), steps=10)
    params = jax.tree.map(jax.numpy.asarray, variables['params'])
    return step.TrainState(
        step=jax.numpy.zeros((), int),
        params=params,
        batch_stats=jax.tree.map(jax.numpy.asarray, variables.get('batch_stats', {})),
        ema=params if ema else {},
        opt_state=optimizer.init(params),
    )


@pytest.fixture(scope='module')
def backbone(tmp_path_factory):
    """A file with an encoder's weights, as data_prep.import_weights writes it; its variables."""
    encoder = Encoder(FROZEN)
    frame = np.zeros((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), frame)
    variables = {name: {'encoder': tree} for name, tree in tiny.fill(shapes).items()}
    path = tmp_path_factory.mktemp('weights') / 'backbone.npz'
    weights.export_weights(path, variables, {'model': {'name': 'encoder'}})
    return path, variables


def below(variables):
    return {name.partition('/')[2]: a for name, a in weights.named(variables).items()}


def test_a_backbone_starts_both_encoders_and_masks_enter_with_zeros(backbone, capsys):
    path, variables = backbone
    fresh = state_of(tiny.giel(encoder=FROZEN))
    state = warm_start(fresh, path)
    ours, theirs = below({'p': state.params, 's': state.batch_stats}), below(variables)
    for name, array in theirs.items():
        for encoder in ('query_encoder', 'support_encoder'):
            taken = ours[f'{encoder}/{name.partition("/")[2]}']
            if name == 'encoder/conv1/kernel' and encoder == 'support_encoder':
                assert not taken[:, :, 3:].any()
                taken = taken[:, :, :3]
            np.testing.assert_array_equal(taken, array)
    np.testing.assert_array_equal(state.params['key']['kernel'], fresh.params['key']['kernel'])
    table = capsys.readouterr().out.splitlines()
    assert table[0] == f'start from {path}:'
    lines = {line.split()[0]: line for line in table[1:]}
    assert lines['key'].endswith('new')
    assert lines['query_encoder'].endswith("from 'encoder'")
    assert lines['support_encoder'].endswith('zeros for more inputs of encoder/conv1/kernel')
    assert lines.keys() == {*fresh.params, *fresh.batch_stats}


def test_cfbi_starts_from_a_lite_encoder(tmp_path):
    model = tiny_cfbi.build(backbone=LiteDeepLabSpec(channels=16, low_channels=8, norm='gn'))
    fresh = state_of(model, shapes=tiny_cfbi.shapes_of(model))
    theirs = jax.tree.map(lambda a: a + 1, fresh.params['query_encoder'])
    weights.export_weights(tmp_path / 'x.npz', {'params': {'encoder': theirs}}, {})
    started = initial_weights.warm_start(fresh, tmp_path / 'x.npz', model.encoders)
    jax.tree.map(np.testing.assert_array_equal, started.params['query_encoder'], theirs)
    for part in fresh.params.keys() - {'query_encoder'}:
        jax.tree.map(np.testing.assert_array_equal, started.params[part], fresh.params[part])


def test_the_average_starts_from_the_same_weights_in_its_own_buffers(backbone):
    path, _ = backbone
    state = warm_start(state_of(tiny.giel(encoder=FROZEN)), path)
    ours, averages = jax.tree.leaves(state.params), jax.tree.leaves(state.ema)
    for param, average in zip(ours, averages, strict=True):
        np.testing.assert_array_equal(param, average)
        assert param.unsafe_buffer_pointer() != average.unsafe_buffer_pointer()
    assert warm_start(state_of(tiny.giel(encoder=FROZEN), ema=False), path).ema == {}


def test_trained_affines_take_the_place_of_frozen_ones(backbone):
    path, variables = backbone
    spec = dataclasses.replace(FROZEN, norm='fixed_bn')
    state = warm_start(state_of(tiny.giel(encoder=spec)), path)
    np.testing.assert_array_equal(
        state.params['query_encoder']['norm1']['bn']['scale'],
        variables['batch_stats']['encoder']['norm1']['bn']['scale'],
    )


def test_weights_of_the_same_model_are_taken_whole(tmp_path):
    model = tiny.giel(encoder=FROZEN)
    variables = jax.tree.map(lambda a: a + 1, tiny.variables_of(model))
    weights.export_weights(tmp_path / 'x.npz', variables, {'model': {'name': 'giel'}})
    state = warm_start(state_of(model), tmp_path / 'x.npz')
    found = weights.named({'params': state.params, 'batch_stats': state.batch_stats})
    for name, array in weights.named(variables).items():
        np.testing.assert_array_equal(found[name], array)


def test_without_a_file_nothing_changes():
    state = state_of(tiny.giel())
    assert warm_start(state, '') is state


def test_weights_that_do_not_fit_are_refused(backbone, tmp_path):
    path, _ = backbone
    wide = dataclasses.replace(FROZEN, stem_width=16)
    with pytest.raises(InputError, match=r"'encoder/conv1/kernel' has shape \[3, 3, 3, 8\], the m"):
        warm_start(state_of(tiny.giel(encoder=wide)), path)
    other = dataclasses.replace(FROZEN, norm='gn')
    with pytest.raises(InputError, match=r"no place for 'encoder/norm1/bn/\w+' and \d+ more"):
        warm_start(state_of(tiny.giel(encoder=other)), path)
    weights.export_weights(tmp_path / 'x.npz', {'params': {'a': np.zeros(3, np.float32)}}, {})
    with pytest.raises(InputError, match=r"nothing in it fits the model .* has 'a'"):
        warm_start(state_of(tiny.giel()), tmp_path / 'x.npz')
    with pytest.raises(InputError, match='no such file'):
        warm_start(state_of(tiny.giel()), tmp_path / 'none.npz')
