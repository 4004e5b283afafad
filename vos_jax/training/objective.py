"""What is minimised: the loss of a batch as a function of the weights."""

import dataclasses

import jax

from vos_jax.config.schema import LossSpec, TrainingSpec
from vos_jax.ops import aggregation
from vos_jax.training import losses, schedules, unroll
from vos_jax.training.sharding import Constraints


@dataclasses.dataclass(frozen=True)
class Objective:
    """All that the loss depends on but weights and clips.

    Attributes:
      model: module with the methods of `models.protocol`.
      loss, training: the run's settings.
      seed: of the run; the features that are dropped follow from it.
      constraints: where the devices keep arrays.
    """

    model: object
    loss: LossSpec
    training: TrainingSpec
    seed: int = 0
    constraints: Constraints = Constraints()

    def loss_of(self, params, state, batch, totals, draw):
        """The loss of a batch, or a part's share of it; for a gradient by `params`.

        Args:
          state: TrainState; its step and batch statistics count.
          batch: see `step.train_step`.
          totals: `losses.Totals` of a whole batch of which this is a part; None: it is one.
          draw: number of the call, for dropout.

        Returns:
          loss, (its terms, batch statistics).
        """
        variables = {'params': self.constraints.whole(params)}
        if state.batch_stats:
            variables['batch_stats'] = state.batch_stats
        labels, objects, training = batch['labels'], batch['objects'], self.training
        unrolling = unroll.Unrolling(
            'none' if training.remat == 'auto' else training.remat,
            training.unrolled,
            training.predict_from,
            self.constraints.rows,
        )
        outputs, variables = unroll.unroll(
            self.model,
            variables,
            batch['frames'],
            aggregation.one_hot_masks(labels[:, 0], objects.shape[1]),
            objects,
            unrolling,
            teacher=self._teacher(labels, state.step),
            train=True,
            dropout=jax.random.fold_in(jax.random.key(self.seed), draw),
        )
        truth = losses.Truth(labels, objects, self.model.stride)
        hardest = self.loss.hardest
        fraction = schedules.piecewise_linear(hardest)(state.step) if hardest else 1.0
        loss, terms = losses.clip_loss(outputs, truth, self.loss, fraction, totals)
        return loss, (terms, variables.get('batch_stats', {}))

    def totals_of(self, batch):
        """`losses.Totals` of a batch."""
        truth = losses.Truth(batch['labels'], batch['objects'], self.model.stride)
        num_frames = batch['labels'].shape[1] - self.training.predict_from
        count = 1 if self.loss.frames == 'last' else num_frames
        return losses.totals_of(truth, count, has_cells=bool(self.loss.propagation))

    def _teacher(self, labels, step):
        """A teacher, where something needs one."""
        since = self.training.sequential_from
        if not (self.loss.propagation or since or self.training.predict_from > 1):
            return None
        return unroll.Teacher(labels, step >= since if since else True)
