"""CFBI, small: trains from scratch on small real video on a CPU.

The same graph as `cfbi_resnet101.py` with a narrow GroupNorm backbone.

  python train.py --config=configs/cfbi_small.py --workdir=runs/cfbi_small

On two CPU cores, 25 minutes of CPU time: J&F 55.7 on the
val sequences of davis_240p (J 58.9, F 52.5), 50.9 on those of davis_multi_240p (J 50.0, F 51.9).

`configs/cfbi_small.py:lite` has the pre-trained encoder of `giel_lite.py`, which says how to get
it, and photographs among its clips; `lite_brief` is a quarter as long.
"""

from ml_collections import ConfigDict

LITE_STEPS = {'lite': 1600, 'lite_brief': 400}
VARIANTS = {
    'full': {},
    'lite': {},
    'lite_brief': {},
    'tiny': {  # a twentieth of the work a step, for tests
        'model.backbone.stem_width': 8,
        'model.backbone.depths': (1, 1, 1, 1),
        'model.backbone.widths': (8, 8, 16, 16),
        'model.backbone.channels': 16,
        'model.backbone.low_channels': 8,
        'model.embedding_channels': 8,
        'model.prehead_channels': 8,
        'model.head_channels': (16, 16, 16),
        'model.windows': (2, 1),
        'data.batch_size': 2,
        'data.crop': (65, 81),
        'data.gap': ((0, 1),),
        'data.cache_mb': 0,
        'optimizer.warmup': 2,
        'training.steps': 20,
        'training.sequential_from': 10,
        'training.log_every': 5,
        'training.evaluate_every': 0,
    },
}


def get_config(variant='full'):
    config = ConfigDict()
    config.model = dict(
        name='cfbi',
        backbone=dict(
            block='basic',
            stem_width=16,
            depths=(1, 2, 2, 1),
            widths=(24, 48, 96, 96),
            aspp_rates=(3, 6, 9),
            channels=48,
            low_channels=16,
            dropout=0.0,
            norm='gn',
        ),
        embedding_channels=32,
        prehead_channels=24,
        head_channels=(48, 64, 32),
        channel_order='rgb',
        windows=(6, 1, 2, 3, 4, 5),  # ours: half as many cells, for half the resolution
    )
    config.data = dict(
        sources=dict(
            davis_240p=dict(root='davis_240p', weight=0.6),
            davis_multi_240p=dict(root='davis_multi_240p', weight=0.4),
        ),
        batch_size=3,
        crop=(113, 161),
        clip_length=4,  # reference, previous and two current frames
        num_slots=2,
        reference='random',
        gap=((0, 1), (500, 2)),
        scale=(1.2, 2.2),
        stretch=0.1,
        rotation=15.0,
        shear=5.0,
        jitter=dict(rotation=4.0, scale=0.05, shear=2.0, shift=0.03),
        colour=dict(brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        paste=dict(probability=0.4),
        balanced_pixels=100,
        num_threads=1,
        prefetch=3,
        cache_mb=600,
    )
    config.loss = dict(bce=0.0, dice=1.0, hardest_of='all')  # dice: ours
    config.optimizer = dict(
        name='adamw',  # ours: SGD's recipe is for pre-trained weights
        learning_rate=1.5e-3,
        schedule='cosine',
        warmup=50,
        end=1e-5,
        weight_decay=0.02,
        clip_norm=1.0,
    )
    config.training = dict(
        steps=800,
        ema_decay=0.99,
        predict_from=2,  # the previous frame comes with its true mask
        sequential_from=500,  # before that the previous mask is the true one
        unrolled=True,  # quicker on CPUs, see unroll.Unrolling
        log_every=20,
        checkpoint_every=100,
        evaluate_every=800,
    )
    config.evaluation = dict(
        sources=dict(
            davis_240p=dict(root='davis_240p', split='val'),
            davis_multi_240p=dict(root='davis_multi_240p', split='val'),
        )
    )
    config.inference = dict(memory=dict(policy='given+previous', size=5, every=1, capacity=5))
    if variant in LITE_STEPS:
        _with_lite_encoder(config, LITE_STEPS[variant])
    config.update_from_flattened_dict(VARIANTS[variant])
    return config


def _with_lite_encoder(config, steps):
    """All of it ours."""
    config.init = 'runs/efficientnet_lite0.npz'  # weights to start from
    config.model.backbone = dict(
        kind='efficientnet_lite0',
        aspp_rates=(2, 4, 6),
        channels=48,
        low_channels=16,
        dropout=0.0,
        norm='gn',
    )
    config.optimizer.update(
        learning_rate=1e-3,
        groups=(
            ('query_encoder/(stem|stage[123]_)', 0.0),  # frozen_stages: no decay either
            ('query_encoder/stage', 0.2),
        ),
    )
    # What moves a still image is its jitter alone.
    moving = dict(rotation=12.0, scale=0.15, shear=8.0, shift=0.06)
    stills = dict(root='still_regions', kind='still_images', weight=0.2, jitter=moving)
    config.data.sources.still_regions = stills
    config.data.update(
        crop=(129, 193),
        gap=((0, 1), (steps // 2, 2), (round(0.7 * steps), 3)),
        scale=(1.0, 2.0),
    )
    config.training.update(
        steps=steps,
        ema_decay=0.99 if steps < 1000 else 0.995,
        sequential_from=round(0.3 * steps),
        evaluate_every=steps,
    )
