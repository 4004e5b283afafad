"""A trained model: its config, its variables, and where they come from. Opened in one way.

>>> model = open_model('giel_small')
>>> model.config.model.name
'giel'
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vos_jax import weights
from vos_jax.config.read import changed
from vos_jax.config.schema import Config, MemorySpec
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import registry
from vos_jax.models.shapes import check_variables
from vos_jax.storage import checksum, paths

READ_AT_ONCE = 64  # frames of which the memory keeps at least this many, where more are asked for


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model with its weights.

    Attributes:
      config: Config; `config.model` is the model's, `config.inference` says how videos are run.
      variables: {'params': ..., 'batch_stats': ...}.
      about: plain values that say where they come from: `weights` (a file), or `workdir` and
        `step` of a run.
    """

    config: Config
    variables: Mapping[str, Any]
    about: Mapping[str, Any]

    @functools.cached_property
    def fingerprint(self) -> str:
        """CRC-32 of all variables and their names, eight hexadecimal digits."""
        return checksum.fingerprint(weights.named(self.variables))

    @property
    def name(self) -> str:
        """Where it comes from, for people."""
        if 'weights' in self.about:
            return str(self.about['weights'])
        return f'{self.about["workdir"]} step {self.about["step"]}'

    def with_settings(self, group: str, **settings) -> 'TrainedModel':
        """The same model with other settings of a group of its config; None leaves one as it is."""
        spec = changed(getattr(self.config, group), group, **settings)
        config = dataclasses.replace(self.config, **{group: spec})
        return dataclasses.replace(self, config=config)

    def on(self, *platforms: str) -> 'TrainedModel':
        """The same model, a `dtype` of 'auto' decided for platforms; default: that of jax."""
        model = self.config.model.resolved(*(platforms or (jax.default_backend(),)))
        return dataclasses.replace(self, config=dataclasses.replace(self.config, model=model))

    def with_memory(self, size: int | None) -> 'TrainedModel':
        """The same model reading up to `size` frames of memory at once; None: as it says."""
        if size is None:
            return self
        memory = self.config.inference.memory
        capacity = max(memory.capacity, READ_AT_ONCE, size)
        memory = changed(memory, 'inference.memory', size=size, capacity=capacity)
        return self.with_settings('inference', memory=memory)

    def segmenter(self, memory: MemorySpec | None = None, device=None) -> Segmenter:
        """The segmenter that runs it.

        Args:
          memory: frames that are remembered; default: as the config says.
          device: jax.Device to run on; default: jax's.
        """
        return Segmenter.from_config(
            self.config, self.variables, memory=memory, device=device, where=self.name
        )


def open_model(name_or_path: str | Path) -> TrainedModel:
    """Opens a file of weights, or weights that come with the package by their name.

    Raises:
      InputError: where there is no such file, or it holds something else.
    """
    path = weights.find(name_or_path)
    loaded = weights.load_weights(path)
    about = {'weights': str(paths.absolute(path))}
    return _checked(TrainedModel(registry.read_config(loaded.config), loaded.variables, about))


def open_run(workdir: str | Path, step: int | str = 'best') -> TrainedModel:
    """Opens a checkpoint of a training run.

    Args:
      workdir: folder of the run.
      step: 'best' (by J&F of the held-out sequences; the latest where none was evaluated),
        'latest', or a number.

    Raises:
      InputError: where there is no such checkpoint, or it is damaged.
    """
    # Here: they need packages to train, which a file of weights does without.
    from vos_jax import checkpoint_files, recipe

    config = recipe.stored(workdir)
    variables, record = checkpoint_files.read_variables(workdir, step)
    about = {'workdir': str(paths.absolute(workdir)), 'step': record['step']}
    return _checked(TrainedModel(config, variables, about))


def _checked(model):
    """Refuses arrays that the config does not fit before anything is made with them."""
    check_variables(registry.build(model.config.model), model.variables, model.name)
    return model
