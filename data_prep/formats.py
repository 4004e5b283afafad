"""The PyTorch checkpoints that can be read and written, by name."""

from data_prep import names_cfbi, names_efficientnet, names_resnet, names_stm

FORMATS = {
    **names_cfbi.FORMATS,
    **names_stm.FORMATS,
    **names_resnet.FORMATS,
    **names_efficientnet.FORMATS,
}
