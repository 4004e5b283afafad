"""STM (Oh, Lee, Xu and Kim, ICCV 2019) with ResNet-50, in its two stages.

Published, with both stages (GIEL, Table 2): DAVIS-2017 val J&F 81.8, J 79.2, F 84.3. The authors
released no training code; what they reported of it, and what retrainings found, is in the comments.
Here: not yet measured.

1. Clips simulated from still images, from ImageNet's weights:

  vos-import --format=torchvision_resnet50 resnet50.pth resnet50.npz
  python train.py --config=configs/stm_resnet50.py:stills --workdir=runs/stm_stills \
      --config.init=resnet50.npz

2. Video, from the weights of stage 1:

  vos-export --workdir=runs/stm_stills --out=stm_stills.npz
  python train.py --config=configs/stm_resnet50.py --workdir=runs/stm --config.init=stm_stills.npz

Both in one run, with the enlargement and stretch of stage 2 from the beginning on (ours); the
weights of stage 1 are kept in WORKDIR/weights_300000.npz:

  python train.py --config=configs/stm_resnet50.py:both --workdir=runs/stm \
      --config.init=resnet50.npz

The authors needed 4 and 3 days on four GTX 1080 Ti. Released weights need no training:
docs/weights.md.

Variants: full, the stage on video; stills, the one before; both, one after the other; tiny and
tiny_stills, everything narrow on made-up video, for tests.
"""

from ml_collections import ConfigDict

# Clips of three warped copies of one image. STM's ranges are not published: STCN's.
STILL_IMAGES = dict(
    root='static_images',
    kind='still_images',
    jitter=dict(rotation=20.0, scale=0.1, shear=10.0, shift=0.05),  # shift: ours
    colour=dict(grey=0.05),
    frame_colour=dict(brightness=0.1, contrast=0.05, saturation=0.05),
    paste=dict(probability=0.5),  # ours: most stills show one object
)
STILL_STEPS, VIDEO_STEPS = 300_000, 150_000  # ours: the steps are not published
# Shares of 60 videos five times and of 3,471 once, as retrainings have them.
VIDEO = dict(
    davis2017=dict(root='DAVIS', weight=0.08),
    youtube_vos=dict(root='YouTubeVOS2018', kind='youtube_vos', weight=0.92, stride=5),
)
# The skip grows from 0 to 25 by 5 every 20 epochs (of 883 batches).
GAPS = ((0, 1), (17660, 6), (35320, 11), (52980, 16), (70640, 21), (88300, 26))
STILLS = {
    'data.sources': dict(still_images=STILL_IMAGES),
    'data.scale': (1.0, 1.5),
    'data.stretch': 0.0,
    'data.gap': ((0, 1),),
    'training.steps': STILL_STEPS,
}
BOTH = {
    'data.sources': dict(
        still_images={**STILL_IMAGES, 'weight': ((0, 1.0), (STILL_STEPS, 0.0))},
        **{
            name: {**source, 'weight': ((0, 0.0), (STILL_STEPS, source['weight']))}
            for name, source in VIDEO.items()
        },
    ),
    'data.gap': ((0, 1), *((STILL_STEPS + step, gap) for step, gap in GAPS[1:])),
    'training.steps': STILL_STEPS + VIDEO_STEPS,
    'training.export_at': (STILL_STEPS,),
}
MADE_UP = 'made_up'
TINY = {
    'model.encoder': dict(
        block='basic',
        stem='small',
        stem_width=16,
        depths=(1, 1, 1),
        widths=(16, 32, 48),
        strides=(2, 2, 1),
        norm='gn',
    ),
    'model.key_channels': 32,
    'model.value_channels': 48,
    'model.decoder_channels': 16,
    'data.sources': dict(synthetic=dict(root=MADE_UP)),
    'data.crop': (96, 144),
    'data.gap': ((0, 1),),
    'data.num_slots': 2,
    'data.slot_window': 1,
    'data.num_workers': 0,
    'optimizer.learning_rate': 2e-3,
    'optimizer.warmup': 30,
    'optimizer.clip_norm': 1.0,
    'training.steps': 300,
    'training.log_every': 20,
    'training.checkpoint_every': 100,
    'training.evaluate_every': 300,
    'training.unrolled': True,
    'evaluation.sources': dict(synthetic=dict(root=MADE_UP, split='val')),
}
VARIANTS = {
    'full': {},
    'stills': STILLS,
    'both': BOTH,
    'tiny': TINY,
    'tiny_stills': {**TINY, **STILLS, 'training.steps': 600},
}


def get_config(variant='full'):
    config = ConfigDict()
    # compat: 'release' for released weights.
    config.model = dict(name='stm')
    config.data = dict(
        sources=VIDEO,
        batch_size=4,
        crop=(384, 384),
        clip_length=3,
        num_slots=3,  # ours: each slot is a run of the memory encoder
        slot_window=8,  # ours
        gap=GAPS,
        scale=(1.0, 1.25),  # short side 384 to 480
        stretch=0.1,
        num_workers=8,
    )
    config.loss = dict(bce=0.0)
    config.optimizer = dict(name='adam', learning_rate=1e-5, schedule='constant')
    config.training = dict(steps=VIDEO_STEPS)
    config.evaluation = dict(sources=dict(davis2017=dict(root='DAVIS', split='val')))
    # Every fifth frame of a video stays, without a bound, as released. size=5 bounds it.
    config.inference = dict(memory=dict(policy='every_n', size=1000, every=5, capacity=1000))
    config.update_from_flattened_dict(VARIANTS[variant])
    return config
