"""CFBI on DAVIS-2017 alone: 50,000 steps of 6 clips (Yang, Wei and Yang, ECCV 2020, section 4).

  python train.py --config=configs/cfbi_resnet101_davis.py --workdir=runs/cfbi_davis \
      --config.data.sources.davis.root=DAVIS --config.evaluation.sources.davis.root=DAVIS

Published: J&F 74.9 (72.1, 77.7) on DAVIS-2017 val; the ablations of Tables 4 and 5 are variants.
Device, hours and J&F of this code: not yet measured. Everything else is cfbi_resnet101.py.
"""

import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name('cfbi_resnet101.py')))
VARIANTS = BASE['VARIANTS']


def get_config(variant='full'):
    config = BASE['get_config'](variant)
    config.data.sources = dict(davis=dict(root='DAVIS'))
    if variant != 'tiny':
        config.data.batch_size = 6
        config.optimizer.learning_rate = 0.006
        config.loss.hardest = ((0, 1.0), (25_000, 0.15))
        half = config.training.sequential_from == 50_000
        config.training.update(steps=50_000, sequential_from=25_000 if half else 50_000)
    return config
