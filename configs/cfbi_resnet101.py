"""CFBI on YouTube-VOS: DeepLabv3+ with ResNet-101, 465x465 crops (Yang, Wei and Yang, ECCV 2020).

  python -m data_prep.import_weights --format=deeplabv3plus_resnet101 DEEPLAB.pth deeplab.npz
  python train.py --config=configs/cfbi_resnet101.py --workdir=runs/cfbi_resnet101 \
      --config.data.sources.youtube_vos.root=YOUTUBE_VOS --config.init=deeplab.npz \
      --config.evaluation.sources.davis.root=DAVIS

Released weights: python -m data_prep.import_weights --format=cfbi CFBI.pth cfbi.npz, then
evaluate.py --weights=cfbi.npz (published with --scales=1.0,1.15,1.3,1.5 --flip; the fast setting
is --atrous=2 --matching_dtype=bfloat16).

Published: 81.4 on YouTube-VOS 2018 val (81.8 by the released weights: batch 16, rate 0.02), J&F
81.9 on DAVIS-2017 val. Device, hours and J&F of this code: not yet measured.

The values are those of the released configuration; it holds no train loop, and what it leaves open
is marked `ours`. The ablations of Tables 4 and 5 are variants, meant for cfbi_resnet101_davis.py.
"""

from ml_collections import ConfigDict

# Tables 4 and 5: J&F on DAVIS-2017 val, trained on DAVIS-2017 only; the full model has 74.9.
ABLATIONS = {
    'no_background': {'model.matching_background': False, 'model.attention_background': False},
    'no_matching_background': {'model.matching_background': False},  # P
    'no_attention_background': {'model.attention_background': False},  # I
    'no_biases': {'model.distance_bias': False},  # 72.8
    'one_window': {'model.windows': (12,)},  # 73.8; ours: the paper names no radius
    'no_sequential': {'training.sequential_from': 100_000},  # 73.3: after the last step
    'no_ensembler': {'model.head': 'separable'},  # 73.3
    'no_balanced_crop': {'data.balanced_pixels': 0},  # 72.8
    'no_attention': {'model.instance_attention': False},  # 72.7
}
# 68.3: everything above at once.
ABLATIONS['feelvos'] = {key: value for row in ABLATIONS.values() for key, value in row.items()}
VARIANTS = ('full', 'tiny', *ABLATIONS)


def get_config(variant='full'):
    """Variants: 'full'; 'tiny', the same graph for tests; the ablations of Tables 4 and 5."""
    if variant not in VARIANTS:
        raise ValueError(
            f"configs/cfbi_resnet101.py: variant '{variant}' is not one of {', '.join(VARIANTS)}"
        )
    config = ConfigDict()
    config.seed = 0
    config.init = ''  # weights file to start from; '': random
    config.model = dict(
        name='cfbi',
        dtype='bfloat16',  # ours; float32 on CPUs. Weights, norms and distances are float32
        backbone=dict(
            block='bottleneck',
            stem_width=64,
            depths=(3, 4, 23, 3),
            widths=(64, 128, 256, 512),
            strides=(1, 2, 2, 1),
            dilations=(1, 1, 1, 2),
            multi_grid=(1, 2, 4),
            aspp_rates=(6, 12, 18),
            channels=256,
            low_channels=48,
            dropout=0.1,
            norm='frozen_bn',
        ),
        embedding_channels=100,
        prehead_channels=64,
        head_channels=(256, 512, 128),
        channel_order='bgr',  # with the statistics of RGB, as released
        max_edge=1040,  # pixels
        scale=1.0,
        windows=(12, 2, 4, 6, 8, 10),  # radii in cells of stride 8, in the order of the channels
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
            youtube_vos=dict(
                root='data/YouTube-VOS',
                kind='youtube_vos',
                split='train',
                weight=1.0,
                stride=1,  # the gap counts stored frames
            ),
        ),
        batch_size=8,
        crop=(465, 465),
        clip_length=5,  # reference, previous and three current frames
        num_slots=5,
        reference='random',  # any frame of the video; the others follow each other
        gap=((0, 3),),  # stored frames
        reverse=0.5,
        flip=0.5,
        scale=(1.0, 1.3),
        stretch=0.0,
        rotation=0.0,
        shear=0.0,
        jitter=dict(rotation=0.0, scale=0.0, shear=0.0, shift=0.0),
        colour=dict(brightness=0.0, contrast=0.0, saturation=0.0, grey=0.0),
        paste=dict(probability=0.0, objects=1),
        balanced_pixels=100,  # of the authors' later code; at most 5 draws
        balanced_tries=5,
        num_workers=4,
        num_threads=2,
        prefetch=3,
        cache_mb=0,
    )
    config.loss = dict(
        bce=0.0,
        ce=1.0,
        dice=0.0,
        propagation=0.0,
        hardest=((0, 1.0), (50_000, 0.15)),  # (step, share of pixels) points
        hardest_of='all',  # pixels, void ones too, as released
        frames='all',
    )
    config.optimizer = dict(
        name='sgd',
        learning_rate=0.01,  # for a batch of 8; 0.02 for 16
        schedule='poly',
        warmup=1000,
        end=1e-5,
        power=0.9,
        weight_decay=1.5e-4,
        momentum=0.9,
        clip_norm=5.0,
    )
    config.training = dict(
        steps=100_000,
        ema_decay=0.0,  # 0: none
        predict_from=2,  # the previous frame comes with its true mask
        sequential_from=50_000,  # before that the previous mask is the true one
        remat='full',
        unrolled=False,
        log_every=100,
        checkpoint_every=1000,
        keep=8,  # newest checkpoints kept, beside the best one
        evaluate_every=10_000,
    )
    config.evaluation = dict(
        sources=dict(davis=dict(root='data/DAVIS', split='val')),
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
    config.update_from_flattened_dict(ABLATIONS.get(variant, {}))
    return config


def _make_tiny(config):
    """The same blocks, a thousandth of the parameters, two clips a step."""
    config.model.backbone.update(
        stem_width=8,
        depths=(1, 1, 1, 1),
        widths=(4, 8, 8, 16),
        channels=16,
        low_channels=8,
    )
    config.model.update(
        dtype='float32',
        embedding_channels=8,
        prehead_channels=8,
        head_channels=(16, 16, 16),
        windows=(4, 1, 2),
    )
    config.data.update(batch_size=2, crop=(65, 65), clip_length=4, num_slots=2, gap=((0, 1),))
    config.data.update(num_workers=0)
    config.training.update(steps=20, remat='none', unrolled=True, log_every=5, evaluate_every=0)
    config.optimizer.update(warmup=2)
    config.loss.update(hardest=((0, 1.0), (10, 0.15)))
    config.training.update(sequential_from=10)
