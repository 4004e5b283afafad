"""GIEL as published: ResNet-50, 740x384 crops, DAVIS-2017 and YouTube-VOS 2018 (CVPR 2021).

  python train.py --config=configs/giel_resnet50.py --workdir=runs/giel_resnet50 \
      --config.data.sources.davis.root=DAVIS --config.data.sources.youtube_vos.root=YOUTUBE_VOS \
      --config.evaluation.sources.davis.root=DAVIS

Published, from the weights of a Mask R-CNN and on four V100 of 32 GB (Tables 1, 2 and 4, percent):
J&F 82.7 on DAVIS-2017 val and 80.6 on YouTube-VOS 2018 val; fast variant 81.2 and 79.0.
Device, hours and J&F of this code: not yet measured.

What the paper leaves open is marked `ours`; D1..D12 are the decisions of `GIELSpec` and this file.
"""

from ml_collections import ConfigDict

VARIANTS = ('full', 'fast', 'tiny')


def get_config(variant='full'):
    """Variants: 'full' (Eq. 12); 'fast' (Eq. 11); 'tiny', the same graph for tests."""
    if variant not in VARIANTS:
        raise ValueError(
            f"configs/giel_resnet50.py: variant '{variant}' is not one of {', '.join(VARIANTS)}"
        )
    config = ConfigDict()
    config.seed = 0
    config.init = ''  # weights to start from (paper: Mask R-CNN's backbone); '': random
    config.model = dict(
        name='giel',
        dtype='bfloat16',  # ours; float32 on CPUs. Weights are float32 in either case
        encoder=dict(
            block='bottleneck',
            stem='resnet',
            stem_width=64,
            depths=(3, 4, 6),
            widths=(64, 128, 256),
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            norm='frozen_bn',  # D2
        ),
        key_channels=128,  # C/8
        value_channels=512,  # C/2
        decoder_channels=256,
        coarse_channels=256,  # D7
        variant='fast' if variant == 'fast' else 'full',
        instance_uses_global=True,  # D8
        support_mask='soft',  # D1
        support_source='global',
        support_stop_gradient=False,  # D1
        inject_mask=False,
        affinity='dot',
        affinity_scale=True,  # D3
        learn_temperature=False,
        locality='none',
        temporal_attention='reweigh',  # D5
        temporal_projection='own',  # D4
        label_downsample='area',  # D6
        label_norm='bn',
        use_instance=True,
        use_global=True,
    )
    config.data = dict(
        sources=dict(
            davis=dict(
                root='data/DAVIS', split='train', weight=0.2
            ),  # ours: the paper has no ratio
            youtube_vos=dict(
                root='data/YouTube-VOS',
                kind='youtube_vos',
                split='train',
                weight=0.8,
                stride=5,  # every fifth frame of its videos is stored
            ),
        ),
        batch_size=16,
        crop=(384, 740),  # D11: padded to 752 inside the model
        clip_length=4,
        # The paper's D. Few clips show so many, but those that do are what the model is for; an
        # unused slot costs a decoder pass, not memory that grows with the clip (remat).
        num_slots=6,
        gap=((0, 5), (32_000, 10), (64_000, 15), (96_000, 20), (128_000, 25)),  # ours, as STM
        scale=(1.0, 1.5),  # ours
        stretch=0.0,
        rotation=15.0,  # ours
        shear=0.0,
        jitter=dict(rotation=0.0, scale=0.0, shear=0.0, shift=0.0),
        colour=dict(brightness=0.0, contrast=0.0, saturation=0.0, grey=0.0),
        paste=dict(probability=0.0, objects=1),
        num_workers=4,
        num_threads=2,
        prefetch=3,
        cache_mb=0,
    )
    config.loss = dict(
        bce=1.0,
        ce=1.0,  # lambda
        dice=0.0,  # D9
        propagation=0.0,  # D9
        hardest=(),  # D9: (step, share of pixels) points; () all pixels
        frames='all',  # D10
    )
    config.optimizer = dict(
        name='adam',
        learning_rate=1e-5,
        schedule='poly',
        warmup=0,
        end=0.0,
        power=1.0,
        weight_decay=0.0,
        momentum=0.9,  # of sgd only
        clip_norm=0.0,  # 0: none
    )
    config.training = dict(
        steps=160_000,  # D12
        ema_decay=0.0,  # 0: none
        sequential_from=0,  # recurrent training from the first step on
        remat='full',
        unrolled=False,
        log_every=100,
        checkpoint_every=1000,
        keep=2,  # newest checkpoints kept, beside the best one
        evaluate_every=10_000,
    )
    config.evaluation = dict(
        sources=dict(davis=dict(root='data/DAVIS', split='val')),
        max_frames=0,  # of each sequence; 0: all
        max_sequences=0,  # of each source; 0: all
    )
    config.inference = dict(memory=dict(policy='sample', size=5, every=5, capacity=64))
    if variant == 'tiny':
        _make_tiny(config)
    return config


def _make_tiny(config):
    """The same blocks, a thousandth of the parameters, two clips a step."""
    config.model.encoder.update(stem_width=8, depths=(1, 1, 1), widths=(4, 8, 16))
    config.model.update(
        dtype='float32', key_channels=8, value_channels=16, decoder_channels=8, coarse_channels=8
    )
    config.data.update(batch_size=2, crop=(64, 100), num_slots=2, gap=((0, 1),), num_workers=0)
    config.training.update(steps=2, log_every=1, checkpoint_every=2, evaluate_every=2)
