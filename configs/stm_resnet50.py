"""STM (Oh, Lee, Xu and Kim, ICCV 2019) with ResNet-50, in its two stages.

Published, with both stages (GIEL, Table 2): DAVIS-2017 val J&F 81.8, J 79.2, F 84.3. The authors
released no training code; what they told of it, and what retrainings found, is in the comments.
Here: not yet measured.

1. Clips simulated from still images, from ImageNet's weights:

  python -m data_prep.import_weights --format=torchvision_resnet50 resnet50.pth resnet50.npz
  python train.py --config=configs/stm_resnet50.py:stills --workdir=runs/stm_stills \
      --config.init=resnet50.npz

2. Video, from the weights of stage 1:

  vos-export --workdir=runs/stm_stills --out=stm_stills.npz
  python train.py --config=configs/stm_resnet50.py --workdir=runs/stm --config.init=stm_stills.npz

The authors needed 4 and 3 days on four GTX 1080 Ti. Released weights need no training:
docs/weights.md.
"""

from ml_collections import ConfigDict

VARIANTS = ('full', 'stills', 'tiny', 'tiny_stills')


def get_config(variant='full'):
    """Variants: 'full', the stage on video; 'stills', the one before; 'tiny' of both for tests."""
    if variant not in VARIANTS:
        raise ValueError(
            f"configs/stm_resnet50.py: variant '{variant}' is not one of {', '.join(VARIANTS)}"
        )
    config = ConfigDict()
    config.seed = 0
    config.init = ''  # weights file to start from; '': random
    config.model = dict(
        name='stm',
        dtype='float32',  # 'bfloat16' on accelerators
        encoder=dict(
            block='bottleneck',
            stem='resnet',
            stem_width=64,
            depths=(3, 4, 6),
            widths=(64, 128, 256),
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            norm='fixed_bn',  # statistics are fixed, scale and bias are trained
        ),
        key_channels=128,
        value_channels=512,
        decoder_channels=256,
        compat='contract',  # 'release' for released weights
        memory_stop_gradient=False,  # the published loss is silent; retrainings do both
    )
    config.data = dict(
        sources=dict(
            # Shares of 60 videos five times and of 3,471 once, as retrainings have them.
            davis2017=dict(root='data/DAVIS', split='train', weight=0.08),
            youtube_vos=dict(root='data/YouTubeVOS2018', kind='youtube_vos', weight=0.92, stride=5),
        ),
        batch_size=4,
        crop=(384, 384),
        clip_length=3,
        num_slots=3,  # ours: each slot is a run of the memory encoder
        # The skip grows from 0 to 25 by 5 every 20 epochs (of 883 batches).
        gap=((0, 1), (17660, 6), (35320, 11), (52980, 16), (70640, 21), (88300, 26)),
        scale=(1.0, 1.25),  # short side 384 to 480
        scale_of='cover',
        stretch=0.1,
        rotation=0.0,
        shear=0.0,
        jitter=dict(rotation=0.0, scale=0.0, shear=0.0, shift=0.0),
        colour=dict(brightness=0.0, contrast=0.0, saturation=0.0, grey=0.0),
        paste=dict(probability=0.0, objects=1),
        num_workers=8,
        num_threads=2,
        prefetch=4,
        cache_mb=0,
    )
    config.loss = dict(bce=0.0, ce=1.0, dice=0.0, propagation=0.0, hardest=())
    config.optimizer = dict(
        name='adam',
        learning_rate=1e-5,
        schedule='constant',
        warmup=0,
        end=0.0,
        power=1.0,
        weight_decay=0.0,
        momentum=0.9,
        clip_norm=0.0,  # none
    )
    config.training = dict(
        steps=150_000,  # ours: not published
        ema_decay=0.0,  # none
        sequential_from=0,  # predicted masks are memorised from the first step on
        remat='step',
        unrolled=False,
        log_every=100,
        checkpoint_every=1000,
        keep=2,  # newest checkpoints kept, beside the best one
        evaluate_every=10_000,
    )
    config.evaluation = dict(
        sources=dict(davis2017=dict(root='data/DAVIS', split='val')),
        max_frames=0,  # of each sequence; 0: all
        max_sequences=0,  # of each source; 0: all
    )
    # Every fifth frame of a video stays, without a bound, as released. size=5 bounds it.
    config.inference = dict(memory=dict(policy='every_n', size=1000, every=5, capacity=1000))
    if variant.startswith('tiny'):
        _make_tiny(config)
    if variant.endswith('stills'):
        _use_stills(config)
    return config


def _use_stills(config):
    """Clips of three warped copies of one image. STM's ranges are not published: STCN's."""
    config.data.sources = dict(
        still_images=dict(
            root='data/static_images',
            kind='still_images',
            weight=1.0,
            jitter=dict(rotation=20.0, scale=0.1, shear=10.0, shift=0.05),  # shift: ours
            colour=dict(brightness=0.0, contrast=0.0, saturation=0.0, grey=0.05),
            frame_colour=dict(brightness=0.1, contrast=0.05, saturation=0.05, grey=0.0),
        ),
    )
    config.data.update(scale=(1.0, 1.5), stretch=0.0, gap=((0, 1),), clip_length=3)
    config.data.paste = dict(probability=0.5, objects=1)  # ours: most stills show one object
    config.training.steps *= 2  # ours: 300,000


def _make_tiny(config):
    """Everything narrow, on made-up video, for tests: trains from nothing in minutes."""
    config.model.encoder.update(
        block='basic', stem='small', stem_width=16, depths=(1, 1, 1), widths=(16, 32, 48)
    )
    config.model.encoder.update(strides=(2, 2, 1), norm='gn')
    config.model.update(key_channels=32, value_channels=48, decoder_channels=16)
    root = 'runs/demo/data'
    config.data.sources = dict(synthetic=dict(root=root, split='train', weight=1.0))
    config.data.update(crop=(96, 144), gap=((0, 1),), num_slots=2, num_workers=0)
    config.evaluation.sources = dict(synthetic=dict(root=root, split='val'))
    config.optimizer.update(learning_rate=2e-3, warmup=30, clip_norm=1.0)
    config.training.update(
        steps=300, log_every=20, checkpoint_every=100, evaluate_every=300, unrolled=True
    )
    config.training.remat = 'none'
