"""What the devices do for a config: mesh, compiled train step, and the batches it is fed."""

import dataclasses
import functools

import jax

from vos_jax.compilation import RUN_ONCE, options_of_train_step
from vos_jax.data.pipeline import forms_of, make_batches
from vos_jax.errors import InputError
from vos_jax.models import registry
from vos_jax.training import flops, remat, sharding
from vos_jax.training import step as steps
from vos_jax.training.optimizer import make_optimizer


class Program:
    """What a config makes the devices do: mesh, places of all arrays, compiled step, batches.

    Args:
      config: Config; its attribute of this name is what was made of it for these devices.
      devices: instead of all there are; those of a topology that is only planned will do.

    Raises:
      InputError: for settings that do not fit together, before anything is computed.
    """

    def __init__(self, config, devices=None):
        if config.data is None:
            raise InputError("'data' is not set; training needs its sources, batch_size and crop")
        platform = (jax.devices() if devices is None else devices)[0].platform
        config = dataclasses.replace(config, model=config.model.resolved(platform))
        training, self.config = config.training, config
        model = self.model = registry.build(config.model)
        optimizer, self.rate = make_optimizer(config.optimizer, training.steps)
        clips = config.data.batch_size // training.accumulate
        rows = -(-config.data.crop[0] // model.stride)
        self.mesh = sharding.make_mesh(config.mesh, devices, clips, rows, training.accumulate)
        self.shapes = shapes_of(config.data.warped)
        self._given = shapes_of(config.data)  # what the loader gives
        self.in_batch = sharding.shard_batch(self._given, self.mesh, training.accumulate)

        def init():
            key, has_ema = jax.random.key(config.seed), training.ema_decay > 0
            return steps.init_state(model, optimizer, self.shapes, key, has_ema)

        self.state = jax.eval_shape(init)
        training = dataclasses.replace(training, remat=remat.decided(self))
        config = self.config = dataclasses.replace(config, training=training)
        self.in_state = sharding.shard_state(self.state, self.mesh)
        self.init = jax.jit(
            init,
            out_shardings=self.in_state,
            compiler_options=RUN_ONCE if platform == 'cpu' else None,
        )
        whole = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        self.step = jax.jit(
            steps.make_train_step(model, optimizer, config, self.mesh),
            in_shardings=(self.in_state, self.in_batch),
            out_shardings=(self.in_state, whole),
            donate_argnums=0,
            compiler_options=options_of_train_step(platform),
        )

    def batches(self, start):
        """Batches from a step on, each process reading the clips that its devices see."""
        size = self.config.data.batch_size
        first, count = sharding.local_clips(self.in_batch['objects'], size)
        return GlobalBatches(
            make_batches(
                self.config.data,
                seed=self.config.seed,
                start_step=start,
                process_index=first // count,
                process_count=size // count,
            ),
            functools.partial(sharding.to_devices, shardings=self.in_batch, batch_size=size),
        )

    def flops(self):
        """Operations of a step by the number of slots that it computes; see `flops.count`."""
        *ladder, most = self.config.data.slot_ladder
        found = {most: flops.count(self.trace().jaxpr)}  # of branches the largest counts
        for slots in ladder:
            data = dataclasses.replace(self.config.data.warped, num_slots=slots, slot_window=1)
            program = Program(
                dataclasses.replace(self.config, data=data), [*self.mesh.devices.flat]
            )
            found[slots] = flops.count(program.trace().jaxpr)
        return found

    def trace(self):
        """The step, traced for the shapes of the config (jax.stages.Traced).

        With the places of the arrays, so that the first step finds it and traces nothing again.
        """
        return self.step.trace(
            sharding.placed(self.state, self.in_state), sharding.placed(self._given, self.in_batch)
        )


class GlobalBatches:
    """Iterator of batches on the devices."""

    def __init__(self, batches, to_devices):
        self._batches, self._to_devices = batches, to_devices
        self.close, self.listing = batches.close, batches.listing

    def __iter__(self):
        return self

    def __next__(self):
        return self._to_devices(next(self._batches))


def shapes_of(data):
    """Shapes and types of a global batch, from `config.data`."""
    return {
        name: jax.ShapeDtypeStruct((data.batch_size, *shape), kind)
        for name, (shape, kind) in forms_of(data).items()
    }
