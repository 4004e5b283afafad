"""The train step: a function of (state, batch), everything static bound before it is compiled."""

import re

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vos_jax.errors import InputError
from vos_jax.ops import aggregation
from vos_jax.training import losses, schedules, sharding, unroll


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
      step: i32 scalar, steps done.
      params, batch_stats: the model's variables; batch_stats may be empty.
      ema: moving average of `params`, or an empty dict.
      opt_state: the optimizer's state.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    ema: dict
    opt_state: optax.OptState

    def variables(self, averaged=True):
        """The model's variables; with `averaged` the moving average where there is one."""
        params = self.ema if averaged and self.ema else self.params
        return {'params': params, **({'batch_stats': self.batch_stats} if self.batch_stats else {})}


def make_optimizer(spec, steps):
    """An optimizer, and its learning rate as a function of the step.

    Weight decay leaves vectors alone (biases, norms); gradients are clipped by their global norm.

    Args:
      spec: OptimizerSpec, `config.optimizer`.
      steps: of the whole run.
    """
    rate = schedules.learning_rate(spec, steps)
    name, decay = spec.name, spec.weight_decay
    parts = []
    if spec.clip_norm:
        parts.append(optax.clip_by_global_norm(spec.clip_norm))
    if name != 'adamw' and decay:
        parts.append(optax.add_decayed_weights(decay, mask=_matrices))
    if name == 'adam':
        parts.append(optax.adam(rate))
    elif name == 'adamw':
        parts.append(optax.adamw(rate, weight_decay=decay, mask=_matrices))
    else:
        parts.append(optax.sgd(rate, momentum=spec.momentum))
    if spec.groups:
        parts.append(scale_groups(spec.groups))
    return optax.chain(*parts), rate


def scale_groups(groups):
    """Scales the updates of groups of parameters, weight decay among them; 0 freezes a group.

    Args:
      groups: ((pattern, factor), ...): regular expressions that are searched for in names such as
        'query_encoder/stage4_0/expand/kernel'. The first that is found counts; other parameters
        have factor 1.

    Returns:
      An optax transformation, the last one of an optimizer. Its `init` raises InputError for a
      pattern that no parameter has.
    """
    patterns = [(re.compile(pattern), factor) for pattern, factor in groups]

    def group_of(path):
        name = '/'.join(key.key for key in path)
        found = (index for index, (pattern, _) in enumerate(patterns) if pattern.search(name))
        return next(found, None)

    def init(params):
        used = {group_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
        for index, (pattern, _) in enumerate(patterns):
            if index not in used:
                raise InputError(
                    f"'optimizer.groups': the pattern {pattern.pattern!r} names no parameter that "
                    'none before it names; correct or remove it'
                )
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params

        def scaled(path, update):
            index = group_of(path)
            return update if index is None else update * patterns[index][1]

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def init_state(model, optimizer, shapes, key, ema):
    """A random state.

    Args:
      model: module with the methods of `contract`.
      optimizer: optax transformation.
      shapes: dict(frames=, labels=, objects=) of one batch, arrays or their shapes.
      key: jax.random.key.
      ema: whether a moving average of the weights is kept.
    """
    height, width = shapes['frames'].shape[2:4]
    # A small frame: parameters do not depend on its size, and initialisation runs the model once.
    height, width = min(height, 4 * model.stride), min(width, 4 * model.stride)
    slots = shapes['objects'].shape[1]
    frames = jnp.zeros((1, height, width, 3), jnp.uint8)
    masks = jnp.zeros((1, slots, height, width))
    variables = model.init(key, frames, masks, jnp.ones((1, slots), bool))
    params = variables['params']
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get('batch_stats', {}),
        ema=params if ema else {},
        opt_state=optimizer.init(params),
    )


def make_train_step(model, optimizer, config, mesh=None):
    """Binds model, optimizer and settings.

    Args:
      config: Config, of which `loss`, `training` and `seed` count.
      mesh: `sharding.make_mesh`, for a step that is sharded; None: nothing is constrained.

    Returns:
      Function (state, batch) -> (state, metrics). Not compiled. A step whose loss or gradient is
      not finite has the metric `finite` 0, and changes nothing but the number of the step.
    """
    constraints = sharding.Constraints(mesh)
    gradient_of = make_gradient(model, config, constraints)
    decay = config.training.ema_decay

    def train_step(state, batch):
        batch_stats, loss, terms, gradients = gradient_of(state, batch)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            # Follows quickly at first: an average over the random start would lag for long.
            keep = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
            ema = jax.tree.map(lambda old, new: keep * old + (1.0 - keep) * new, ema, params)
        new_state = TrainState(state.step, params, batch_stats, ema, opt_state)
        new_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state, state)
        metrics = {'loss': loss, **terms, 'gradient_norm': norm}
        metrics['weight_norm'] = optax.tree.norm(new_state.params)
        metrics['finite'] = finite.astype(jnp.float32)
        return new_state.replace(step=state.step + 1), metrics

    return train_step


def make_gradient(model, config, constraints):
    """Binds what the gradient of a batch depends on.

    Args:
      model, config: as for `make_train_step`.
      constraints: `sharding.Constraints`.

    Returns:
      Function (state, batch) -> batch_stats, loss, its terms, gradients. With
      `config.training.accumulate` above 1 the batch is worked off in so many parts, each a few
      clips of every device; loss and gradients are those of the whole batch, but for norms that
      use the statistics of their part ('bn').
    """
    loss_of, totals_of = _make_loss(model, config, constraints)
    num_parts, unrolled = config.training.accumulate, config.training.unrolled

    def of_part(state, batch_stats, part, totals, number=0):
        state = state.replace(batch_stats=batch_stats)
        draw = state.step * num_parts + number  # each part drops features of its own
        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (terms, batch_stats)), gradients = gradient_of(
            state.params, state, part, totals, draw
        )
        return batch_stats, (loss, terms, constraints.parts(gradients))

    def accumulated(state, batch):
        totals, parts = totals_of(batch), _split(batch, num_parts)

        def add(carry, numbered):
            (batch_stats, sums), (number, part) = carry, numbered
            batch_stats, shares = of_part(state, batch_stats, part, totals, number)
            return (batch_stats, jax.tree.map(jnp.add, sums, shares)), None

        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(of_part, state, state.batch_stats, first, totals)[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        numbered = jnp.arange(num_parts), parts
        return jax.lax.scan(add, (state.batch_stats, zeros), numbered, unroll=unrolled)[0]

    def gradient_of(state, batch):
        with constraints.context():
            if num_parts == 1:
                batch_stats, sums = of_part(state, state.batch_stats, batch, None)
            else:
                batch_stats, sums = accumulated(state, batch)
        loss, terms, gradients = sums
        return batch_stats, loss, terms, gradients

    return gradient_of


def _split(batch, num_parts):
    """[B, ...] -> [parts, B / parts, ...]: each device, which has some clips, splits its own."""

    def split(x):
        if x.shape[0] % num_parts:
            raise InputError(
                f"'training.accumulate' is {num_parts}, which does not divide the batch of "
                f'{x.shape[0]} clips'
            )
        return jnp.moveaxis(x.reshape(-1, num_parts, *x.shape[1:]), 1, 0)

    return jax.tree.map(split, batch)


def _make_loss(model, config, constraints):
    """Functions that give the loss, and the totals of a batch.

    (params, state, batch, totals, draw) -> loss, (terms, batch_stats), and batch -> totals.
    The loss is that of the batch, or with the totals of a whole batch its share of that one's.
    `draw` is the number of the call, for dropout.
    """
    loss, training = config.loss, config.training
    weights = {name: getattr(loss, name) for name in ('bce', 'ce', 'dice', 'propagation')}
    fraction_at = schedules.piecewise_linear(loss.hardest) if loss.hardest else None
    frames, hardest_of = loss.frames, loss.hardest_of
    sequential_from, predict_from = training.sequential_from, training.predict_from
    key = jax.random.key(config.seed)
    unrolling = unroll.Unrolling(training.remat, training.unrolled, predict_from, constraints.rows)
    needs_labels = weights['propagation'] or sequential_from or predict_from > 1

    def loss_of(params, state, batch, totals, draw):
        variables = {'params': constraints.whole(params)}
        if state.batch_stats:
            variables['batch_stats'] = state.batch_stats
        labels, objects = batch['labels'], batch['objects']
        sequential = state.step >= sequential_from if sequential_from else True
        outputs, variables = unroll.unroll(
            model,
            variables,
            batch['frames'],
            aggregation.one_hot_masks(labels[:, 0], objects.shape[1]),
            objects,
            unrolling,
            teacher=unroll.Teacher(labels, sequential) if needs_labels else None,
            train=True,
            dropout=jax.random.fold_in(key, draw),
        )
        fraction = fraction_at(state.step) if fraction_at else 1.0
        loss, terms = losses.clip_loss(
            outputs, labels, objects, weights, model.stride, fraction, frames, totals, hardest_of
        )
        return loss, (terms, variables.get('batch_stats', {}))

    def totals_of(batch):
        count = 1 if frames == 'last' else batch['labels'].shape[1] - predict_from
        has_cells = bool(weights['propagation'])
        return losses.totals_of(batch['labels'], batch['objects'], model.stride, count, has_cells)

    return loss_of, totals_of
