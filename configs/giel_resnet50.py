"""GIEL as published: ResNet-50, 740x384 crops, DAVIS-2017 and YouTube-VOS 2018 (CVPR 2021).

  python train.py --config=configs/giel_resnet50.py --workdir=runs/giel_resnet50 \
      --config.data.sources.davis.root=DAVIS --config.data.sources.youtube_vos.root=YOUTUBE_VOS \
      --config.evaluation.sources.davis.root=DAVIS

Published, from the weights of a Mask R-CNN and on four V100 of 32 GB (Tables 1, 2 and 4, percent):
J&F 82.7 on DAVIS-2017 val and 80.6 on YouTube-VOS 2018 val; fast variant 81.2 and 79.0.
Device, hours and J&F of this code: not yet measured.

What the paper leaves open is marked `ours`; D1..D12 are the decisions of `GIELSpec` and this file.
Variants: full (Eq. 12), fast (Eq. 11), tiny (for tests: the same blocks, a thousandth of the
parameters, two clips a step).
"""

from ml_collections import ConfigDict

VARIANTS = {
    'full': {},
    'fast': {'model.variant': 'fast'},
    'tiny': {
        'model.encoder': dict(stem_width=8, depths=(1, 1, 1), widths=(4, 8, 16)),
        'model.key_channels': 8,
        'model.value_channels': 16,
        'model.decoder_channels': 8,
        'model.coarse_channels': 8,
        'data.batch_size': 2,
        'data.crop': (64, 100),
        'data.num_slots': 2,
        'data.slot_window': 1,
        'data.gap': ((0, 1),),
        'data.num_workers': 0,
        'training.steps': 2,
        'training.log_every': 1,
        'training.checkpoint_every': 2,
        'training.evaluate_every': 2,
    },
}


def get_config(variant='full'):
    config = ConfigDict()
    # The paper starts from a Mask R-CNN's backbone: config.init. bfloat16 on
    # accelerators (dtype='auto') is ours.
    config.model = dict(name='giel')
    config.data = dict(
        sources=dict(  # ours: the paper has no ratio
            davis=dict(root='DAVIS', weight=0.2),
            # every fifth frame of its videos is stored
            youtube_vos=dict(root='YouTube-VOS', kind='youtube_vos', weight=0.8, stride=5),
        ),
        batch_size=16,
        crop=(384, 740),  # D11: padded to 752 inside the model
        clip_length=4,
        # The paper's D. Few clips show so many: batches with fewer objects compute fewer slots.
        num_slots=6,
        slot_window=8,  # ours
        gap=((0, 5), (32_000, 10), (64_000, 15), (96_000, 20), (128_000, 25)),  # ours, as STM
        scale=(1.0, 1.5),  # ours
        rotation=15.0,  # ours
        num_workers=4,
        prefetch=3,
    )
    config.loss = dict(bce=1.0, ce=1.0)  # lambda; D9, D10: no more terms, all frames
    config.optimizer = dict(name='adam', learning_rate=1e-5, schedule='poly', power=1.0)
    config.training = dict(steps=160_000)  # D12; recurrent from the first step on
    config.evaluation = dict(sources=dict(davis=dict(root='DAVIS', split='val')))
    config.update_from_flattened_dict(VARIANTS[variant])
    return config
