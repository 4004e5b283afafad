"""The toy model, which this file registers: a run of train.py takes little more than its imports.

python train.py --config=tests/models/toy_config.py --config.data.sources.made_up.root=FOLDER
"""

from ml_collections import ConfigDict

import tests.models.toy  # noqa: F401


def get_config(variant=''):
    config = ConfigDict()
    config.model = dict(name='toy', channels=6)
    config.data = dict(
        sources=dict(made_up=dict(root='made_up')),
        batch_size=2,
        crop=(32, 48),
        clip_length=3,
        num_slots=2,
    )
    config.loss = dict(bce=0.0, ce=1.0)
    config.optimizer = dict(name='adamw', learning_rate=2e-3, warmup=2)
    config.training = dict(steps=4, log_every=2, checkpoint_every=4)
    return config
