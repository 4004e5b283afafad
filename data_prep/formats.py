"""The PyTorch checkpoints that can be read and written, by name."""

from vos_jax.models import efficientnet_lite_torch_names, resnet_torch_names
from vos_jax.models.cfbi import torch_names as cfbi
from vos_jax.models.stm import torch_names as stm

FORMATS = {
    **cfbi.FORMATS,
    **stm.FORMATS,
    **resnet_torch_names.FORMATS,
    **efficientnet_lite_torch_names.FORMATS,
}
