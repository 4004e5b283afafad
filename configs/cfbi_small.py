"""CFBI, small: trains from nothing on small real video on a CPU.

The same graph as `cfbi_resnet101.py` with a narrow GroupNorm backbone.

  python train.py --config=configs/cfbi_small.py --workdir=runs/cfbi_small

On two CPU cores, 25 minutes of CPU time (40 minutes beside other work, 2026-11-25): J&F 55.7 on the
val sequences of davis_240p (J 58.9, F 52.5), 50.9 on those of davis_multi_240p (J 50.0, F 51.9).
"""

from ml_collections import ConfigDict

STEPS = 800
SEQUENTIAL = 500  # from this step on the previous mask is the predicted one


def get_config(variant='full'):
    """Variants: 'full'; 'tiny' for tests."""
    if variant not in ('full', 'tiny'):
        raise ValueError(f"configs/cfbi_small.py: variant '{variant}' is not one of full, tiny")
    config = ConfigDict()
    config.seed = 0
    config.init = ''  # weights file to start from; '': random
    config.model = dict(
        name='cfbi',
        dtype='float32',
        backbone=dict(
            block='basic',
            stem_width=16,
            depths=(1, 2, 2, 1),
            widths=(24, 48, 96, 96),
            strides=(1, 2, 2, 1),
            dilations=(1, 1, 1, 2),
            multi_grid=(1, 2, 4),
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
        max_edge=1040,  # pixels
        scale=1.0,
        windows=(6, 1, 2, 3, 4, 5),  # ours: half as many cells, for half the resolution
        global_atrous=1,
        matching_dtype='float32',
        matching_background=True,
        attention_background=True,
        distance_bias=True,
        instance_attention=True,
        head='ensembler',
    )
    config.data = dict(
        sources=dict(
            davis_240p=dict(root='../shared/data/davis_240p', split='train', weight=0.6),
            davis_multi_240p=dict(
                root='../shared/data/davis_multi_240p', split='train', weight=0.4
            ),
        ),
        batch_size=3,
        crop=(113, 161),
        clip_length=4,  # reference, previous and two current frames
        num_slots=2,
        reference='random',
        gap=((0, 1), (SEQUENTIAL, 2)),
        reverse=0.5,
        flip=0.5,
        scale=(1.2, 2.2),
        stretch=0.1,
        rotation=15.0,
        shear=5.0,
        jitter=dict(rotation=4.0, scale=0.05, shear=2.0, shift=0.03),
        colour=dict(brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        paste=dict(probability=0.4, objects=1),
        balanced_pixels=100,
        balanced_tries=5,
        num_workers=0,
        num_threads=1,
        prefetch=3,
        cache_mb=600,
    )
    config.loss = dict(
        bce=0.0,
        ce=1.0,
        dice=1.0,  # ours
        propagation=0.0,
        hardest=(),  # (step, share of pixels) points; () all pixels
        hardest_of='all',
        frames='all',
    )
    config.optimizer = dict(
        name='adamw',  # ours: SGD's recipe is for pre-trained weights
        learning_rate=1.5e-3,
        schedule='cosine',
        warmup=50,
        end=1e-5,
        power=1.0,
        weight_decay=0.02,
        momentum=0.9,
        clip_norm=1.0,
    )
    config.training = dict(
        steps=STEPS,
        ema_decay=0.99,
        predict_from=2,  # the previous frame comes with its true mask
        sequential_from=SEQUENTIAL,  # before that the previous mask is the true one
        remat='none',
        unrolled=True,  # loops are slow on CPUs, see unroll.unroll
        log_every=20,
        checkpoint_every=100,
        keep=2,  # newest checkpoints kept, beside the best one
        evaluate_every=STEPS,
    )
    config.evaluation = dict(
        sources=dict(
            davis_240p=dict(root='../shared/data/davis_240p', split='val'),
            davis_multi_240p=dict(root='../shared/data/davis_multi_240p', split='val'),
        ),
        max_frames=0,  # of each sequence; 0: all
        max_sequences=0,  # of each source; 0: all
    )
    config.inference = dict(
        memory=dict(policy='given+previous', size=5, every=1, capacity=5),
        scales=(1.0,),
        flip=False,
        max_edge=0,  # pixels; 0: that of the model, or 800 with several scales, as released
    )
    if variant == 'tiny':
        _make_tiny(config)
    return config


def _make_tiny(config):
    """A twentieth of the work a step, for tests."""
    config.model.backbone.update(
        stem_width=8, depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), channels=16, low_channels=8
    )
    config.model.update(
        embedding_channels=8, prehead_channels=8, head_channels=(16, 16, 16), windows=(2, 1)
    )
    config.data.update(batch_size=2, crop=(65, 81), gap=((0, 1),), cache_mb=0)
    config.training.update(steps=20, sequential_from=10, log_every=5, evaluate_every=0)
    config.optimizer.update(warmup=2)
