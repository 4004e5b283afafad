import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models import tiny_cfbi
from tests.models.tiny import SIZE, SPEC, STRIDE, clip, fill, giel, variables_of
from tests.models.toy import Toy, ToySpec
from vos_jax.config.schema import Config, DataSpec, LossSpec, OptimizerSpec, Source, TrainingSpec
from vos_jax.errors import InputError
from vos_jax.training import step as steps
from vos_jax.training.optimizer import make_optimizer, scale_groups

CONFIG = Config(
    model=SPEC,
    loss=LossSpec(dice=0.5, propagation=1.0, hardest=((2, 1.0), (4, 0.1))),
    training=TrainingSpec(ema_decay=0.9, sequential_from=1),
)
RATE = 0.1
# GroupNorm and all that is ours, so that every kind of parameter is there.
MODEL = giel(
    encoder=dataclasses.replace(SPEC.encoder, norm='gn'),
    inject_mask=True,
    learn_temperature=True,
    locality='random_walk',
)
# A constant that all scores of a softmax share: no gradient, as long as there is one.
ALWAYS_ZERO = {'temporal_attention/dense3/bias'}
ZERO_AT_FIRST = {
    f'temporal_attention/{layer}/{part}'
    for layer in ('first', 'frame', 'query', 'dense1', 'dense2')
    for part in ('kernel', 'bias')
}


def changed(**groups):
    """CONFIG with other settings: {group: {setting: value}}."""
    specs = {name: dataclasses.replace(getattr(CONFIG, name), **groups[name]) for name in groups}
    return dataclasses.replace(CONFIG, **specs)


def keeping_gradients():
    """Gradient descent whose state is the last gradient."""
    return optax.GradientTransformation(
        init=lambda params: jax.tree.map(np.zeros_like, params),
        update=lambda gradient, _, params=None: (
            jax.tree.map(lambda g: -RATE * g, gradient),
            gradient,
        ),
    )


def batch():
    """Two clips, the second with one object; some void."""
    batch = clip(batch=2, length=3, num_slots=2)
    batch['labels'][1][batch['labels'][1] == 2] = 0
    batch['labels'][:, 1:, -3:] = 255
    batch['objects'][1, 1] = False
    return batch


@pytest.fixture(scope='module')
def train_step():
    step = steps.make_train_step(MODEL, keeping_gradients(), CONFIG)
    return jax.jit(step)


TOY = Toy(ToySpec())
MODELS = [TOY, pytest.param(MODEL, marks=pytest.mark.slow)]


def loss_for(model):
    return LossSpec(dice=1.0) if isinstance(model, Toy) else CONFIG.loss


@pytest.mark.parametrize('model', MODELS)
def test_a_step_of_fewer_slots_is_that_of_all(model):
    """An object in the first of two slots is computed by one slot, in the second by both."""
    first = clip(batch=2, length=2, num_slots=2, num_objects=1)
    second = first | {'objects': first['objects'][:, ::-1]}
    second['labels'] = np.where(first['labels'] == 1, 2, first['labels']).astype(np.uint8)
    data = DataSpec((Source('x'),), batch_size=2, crop=SIZE, num_slots=2, slot_window=2)
    config = dataclasses.replace(CONFIG, data=data, loss=loss_for(model))
    step = jax.jit(steps.make_train_step(model, keeping_gradients(), config))
    state = state_at(0, model)
    (few, few_metrics), (all_of_them, metrics) = (step(state, one) for one in (first, second))
    assert few_metrics.pop('slots') == 1
    assert metrics.pop('slots') == 2
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, (few_metrics, few.opt_state), (metrics, all_of_them.opt_state))
    jax.tree.map(close, few.batch_stats, all_of_them.batch_stats)


def state_at(step, model=MODEL):
    """A state with the numbers of `variables_of`."""
    variables = variables_of(model)
    params, statistics = variables['params'], variables.get('batch_stats', {})
    zeros = jax.tree.map(np.zeros_like, params)
    return steps.TrainState(np.int32(step), params, statistics, zeros, zeros)


def norms(gradient):
    """Largest absolute value of each tensor by name."""
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): abs(np.asarray(leaf)).max()
        for path, leaf in leaves
    }


@pytest.fixture(scope='module')
def stepped(train_step):
    before = state_at(1)
    return before, *jax.tree.map(np.asarray, train_step(before, batch()))


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(stepped):
    largest = norms(stepped[1].opt_state)
    assert np.isfinite(list(largest.values())).all()
    assert max(largest[name] for name in ALWAYS_ZERO) < 1e-7
    silent = [name for name, value in largest.items() if value < 1e-7 and name not in ALWAYS_ZERO]
    assert not silent


@pytest.mark.parametrize('model', MODELS)
def test_a_step_in_bfloat16_keeps_its_state_in_float32_and_goes_the_same_way(model):
    config, before = dataclasses.replace(CONFIG, loss=loss_for(model)), state_at(1, model)
    (full, full_metrics), (half, metrics) = [
        jax.jit(steps.make_train_step(one, keeping_gradients(), config))(before, batch())
        for one in (model, model.clone(dtype=jnp.bfloat16))
    ]
    kinds = {leaf.dtype for leaf in jax.tree.leaves((half.params, half.ema, half.opt_state))}
    assert kinds == {np.dtype('float32')} == {metrics['loss'].dtype}
    assert metrics['loss'] == pytest.approx(float(full_metrics['loss']), rel=0.02)
    found, expected = flat(half.opt_state), flat(full.opt_state)
    assert not np.array_equal(found, expected)
    assert found @ expected > 0.99 * np.linalg.norm(found) * np.linalg.norm(expected)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_temporal_attention_starts_with_its_last_layer(train_step):
    state = state_at(1)
    state.params['temporal_attention']['dense3']['kernel'][:] = 0
    largest = norms(train_step(state, batch())[0].opt_state)
    assert all(largest[name] == 0 for name in ZERO_AT_FIRST)
    assert largest['temporal_attention/dense3/kernel'] > 1e-7


def test_a_step_moves_parameters_statistics_and_average(stepped):
    before, after, metrics = stepped
    assert after.step == 2
    expected = jax.tree.map(lambda p, g: p - RATE * g, before.params, after.opt_state)
    assert_close(after.params, expected)
    # At step 1 the average still moves quickly: it keeps 2/11 of itself, not 0.9.
    assert_close(after.ema, jax.tree.map(lambda p: 9 / 11 * p, after.params))
    moved = jax.tree.map(lambda a, b: bool((a != b).all()), after.batch_stats, before.batch_stats)
    assert all(jax.tree.leaves(moved['label_encoder']))
    np.testing.assert_allclose(
        metrics['gradient_norm'], optax.tree.norm(after.opt_state), rtol=1e-5
    )


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


def test_the_loss_is_the_sum_of_the_terms(stepped):
    metrics = stepped[2]
    weights = dataclasses.asdict(CONFIG.loss)
    terms = {name: float(metrics[name]) for name in ('bce', 'ce', 'dice', 'propagation')}
    expected = sum(weights[name] * value for name, value in terms.items())
    np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
    assert min(terms.values()) > 0


def test_the_memory_holds_true_masks_until_the_recurrent_training_begins(train_step, stepped):
    _, metrics = train_step(state_at(0), batch())
    assert abs(metrics['ce_all'] - stepped[2]['ce_all']) > 1e-4


def test_the_share_of_hard_pixels_follows_the_step(train_step, stepped):
    _, late = train_step(state_at(4), batch())
    np.testing.assert_allclose(late['ce_all'], stepped[2]['ce_all'], rtol=1e-6)
    assert late['ce'] > 1.2 * stepped[2]['ce']


def test_the_labels_of_unused_slots_and_void_frames_keep_everything_finite(train_step):
    nothing = batch()
    nothing['labels'][:, 1:] = 255
    state, metrics = train_step(state_at(1), nothing)
    assert metrics['ce'] == 0
    assert np.isfinite(list(norms(state.opt_state).values())).all()


def test_a_random_state_has_the_models_parameters():
    shapes = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in batch().items()
    }
    make = lambda key, ema: steps.init_state(MODEL, optax.adam(1e-3), shapes, key, ema)  # noqa: E731
    state = jax.eval_shape(lambda key: make(key, True), jax.random.key(0))
    expected = variables_of(MODEL)
    same = jax.tree.map(lambda a, b: a.shape == b.shape, state.params, expected['params'])
    assert all(jax.tree.leaves(same))
    assert jax.tree.structure(state.ema) == jax.tree.structure(state.params)
    assert jax.eval_shape(lambda key: make(key, False), jax.random.key(0)).ema == {}
    assert MODEL.stride == STRIDE


OPTIMIZER = OptimizerSpec('adamw', learning_rate=0.1, schedule='constant', weight_decay=0.5)


def optimizer_of(**settings):
    return make_optimizer(dataclasses.replace(OPTIMIZER, **settings), 10)[0]


@pytest.mark.parametrize('name', ['adam', 'adamw', 'sgd'])
def test_weight_decay_leaves_vectors_alone(name):
    optimizer = optimizer_of(name=name)
    params = {'kernel': np.ones((2, 2), np.float32), 'bias': np.ones(2, np.float32)}
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    assert (updates['kernel'] < 0).all()
    assert (updates['bias'] == 0).all()


def test_gradients_are_clipped_by_their_common_norm():
    optimizer = optimizer_of(name='sgd', clip_norm=1.0, weight_decay=0.0)
    gradient = {'a': np.array([3.0], np.float32), 'b': np.array([4.0], np.float32)}
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_allclose([updates['a'][0], updates['b'][0]], [-0.06, -0.08], rtol=1e-5)


def test_a_batch_that_is_not_finite_changes_nothing_but_the_step(train_step, stepped):
    before = state_at(1)
    before.params['key']['bias'][0] = np.nan
    after, metrics = train_step(before, batch())
    assert metrics['finite'] == 0
    assert stepped[2]['finite'] == 1
    assert after.step == 2
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, before.batch_stats)


@pytest.mark.long
def test_accumulated_gradients_are_those_of_the_whole_batch():
    # Without statistics of a batch, which see their part only.
    model = giel(encoder=MODEL.spec.encoder, label_norm='gn')
    variables = variables_of(model)
    zeros = jax.tree.map(np.zeros_like, variables['params'])
    statistics = variables.get('batch_stats', {})
    whole = clip(batch=4, length=3, num_slots=2)
    whole['labels'][1][whole['labels'][1] == 2] = 0
    whole['objects'][1, 1] = False
    whole['labels'][2, 1:, -9:] = 255  # other totals in each part
    found = []
    for parts in (1, 2):
        config = changed(training={'accumulate': parts})
        step = jax.jit(steps.make_train_step(model, keeping_gradients(), config))
        state = steps.TrainState(np.int32(3), variables['params'], statistics, {}, zeros)
        found.append(step(state, whole))
    (one, one_metrics), (two, two_metrics) = found
    for name in one_metrics:
        np.testing.assert_allclose(two_metrics[name], one_metrics[name], rtol=1e-5)
    largest = norms(one.opt_state)
    difference = norms(jax.tree.map(lambda a, b: a - b, one.opt_state, two.opt_state))
    # float32, relative to the largest value of each array.
    assert all(difference[name] < 1e-5 * max(largest[name], 1e-3) for name in largest)


@pytest.mark.long
def test_each_part_of_a_batch_drops_features_of_its_own():
    """Twice the same clip in two parts: the mean of the losses of two draws of it alone."""
    loss = {'bce': 0.0, 'ce': 1.0, 'dice': 0.0, 'propagation': 0.0, 'hardest': ()}
    once = clip(batch=1, length=3, size=tiny_cfbi.SIZE, num_slots=2)
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), once)
    params = fill(tiny_cfbi.shapes_of(tiny_cfbi.build()))['params']

    def losses(parts, batch, numbers):
        config = changed(loss=loss, training={'ema_decay': 0.0, 'accumulate': parts})
        step = jax.jit(steps.make_train_step(tiny_cfbi.build(), keeping_gradients(), config))
        zeros = jax.tree.map(np.zeros_like, params)
        states = [steps.TrainState(np.int32(n), params, {}, {}, zeros) for n in numbers]
        return [float(step(state, batch)[1]['loss']) for state in states]

    first, second = losses(1, once, (6, 7))
    (both,) = losses(2, twice, (3,))
    assert abs(first - second) > 1e-4
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)


def test_parts_that_do_not_divide_the_batch_are_refused():
    config = changed(training={'accumulate': 3})
    step = steps.make_train_step(MODEL, keeping_gradients(), config)
    with pytest.raises(InputError, match='which does not divide the batch of 2'):
        jax.eval_shape(step, state_at(1), batch())


GROUPED = {
    'trunk': {'conv': {'kernel': np.ones((2, 2), np.float32)}},
    'head': np.ones(3, np.float32),
}


@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_groups_of_parameters_have_rates_of_their_own(name):
    updates = {}
    for factor in (None, 0.2, 0.0):
        groups = () if factor is None else (('trunk/.*kernel', factor), ('trunk|head', 1.0))
        optimizer = optimizer_of(name=name, groups=groups)
        state = optimizer.init(GROUPED)
        updates[factor], _ = optimizer.update(GROUPED, state, GROUPED)
    kernel = {factor: tree['trunk']['conv']['kernel'] for factor, tree in updates.items()}
    np.testing.assert_allclose(kernel[0.2], 0.2 * kernel[None], rtol=1e-6)
    assert not kernel[0.0].any()
    np.testing.assert_array_equal(updates[0.0]['head'], updates[None]['head'])


@pytest.mark.parametrize('groups', [(('tail', 0.5),), (('trunk', 0.5), ('conv', 0.1))])
def test_a_pattern_that_names_nothing_is_refused(groups):
    transformation = scale_groups(groups)
    message = rf"'optimizer\.groups': the pattern '{groups[-1][0]}' names no parameter that none"
    with pytest.raises(InputError, match=message):
        transformation.init(GROUPED)
