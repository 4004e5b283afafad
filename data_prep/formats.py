"""The PyTorch checkpoints that can be read and written, by name."""

import pkgutil

from vos_jax.models import efficientnet_lite_torch_names, registry, resnet_torch_names

FORMATS = {**resnet_torch_names.FORMATS, **efficientnet_lite_torch_names.FORMATS}
for entry in registry.MODELS.values():
    if entry.formats:
        FORMATS |= pkgutil.resolve_name(entry.formats)
