"""GIEL, small: trains from scratch on small real video on a CPU.

The same graph as `giel_resnet50.py` with a narrow GroupNorm encoder and memory cells of 8 pixels.

  python train.py --config=configs/giel_small.py --workdir=runs/giel_small
  vos-export --workdir=runs/giel_small --out=runs/giel_small.npz
  python train.py --config=configs/giel_small.py:refine --config.init=runs/giel_small.npz \
      --workdir=runs/giel_small_refine

2,500 steps, 113 CPU minutes on two cores that had other work too: J&F 57.2 on the val sequences
with one object, 59.7 on those with several. 600 more steps of `:refine`, 97 CPU
minutes: 59.7 and 58.9, and 60.2 and 59.0 with 8 frames of memory instead of 5.
See vos_jax/pretrained/README.md.

Variants: full; refine, a second stage at the size of the test frames (more of a frame, hence more
look-alikes), from the weights that `config.init` names; davis, on DAVIS as `vos-prepare davis2017
--download --out=data` leaves it (not yet measured); tiny, a tenth of the work a step on made-up
video, for `make demo` and the tests.
"""

from ml_collections import ConfigDict

MADE_UP = 'made_up'
VARIANTS = {
    'full': {},
    'refine': {
        'data.batch_size': 3,
        'data.crop': (192, 288),
        'data.gap': ((0, 3),),
        'data.scale': (0.9, 1.7),
        'data.paste.probability': 0.6,
        'loss.hardest': ((0, 1.0), (400, 0.4)),
        'optimizer.learning_rate': 5e-4,
        'optimizer.warmup': 50,
        'training.steps': 600,
        'training.sequential_from': 0,
        'training.ema_decay': 0.995,
        'training.evaluate_every': 600,
    },
    'davis': {
        'data.sources': dict(davis=dict(root='davis2017')),
        'training.evaluate_every': 0,  # 30 sequences at 480p: by vos-evaluate, in the end
        'evaluation.sources': dict(davis=dict(root='davis2017', split='val')),
    },
    'tiny': {
        'model.encoder.stem_width': 16,
        'model.encoder.widths': (16, 32, 48),
        'model.encoder.depths': (1, 1, 1),
        'model.key_channels': 32,
        'model.value_channels': 48,
        'model.decoder_channels': 16,
        'data.sources': dict(synthetic=dict(root=MADE_UP)),
        'data.crop': (96, 144),
        'data.gap': ((0, 1),),
        'optimizer.learning_rate': 2e-3,
        'optimizer.warmup': 30,
        'training.steps': 300,
        'training.sequential_from': 100,
        'training.evaluate_every': 300,
        'training.ema_decay': 0.98,
        'evaluation.sources': dict(synthetic=dict(root=MADE_UP, split='val')),
    },
}


def get_config(variant='full'):
    config = ConfigDict()
    config.model = dict(
        name='giel',
        encoder=dict(
            block='basic',
            stem='small',
            stem_width=32,
            depths=(2, 2, 2),
            widths=(48, 96, 128),
            strides=(2, 2, 1),
            norm='gn',
        ),
        key_channels=64,
        value_channels=96,
        decoder_channels=32,
        affinity='l2',  # ours: converges faster from scratch
        learn_temperature=True,
        locality='random_walk',  # ours: from scratch, near cells are the better first guess
        inject_mask=True,  # ours: the mask reaches all stages of the support encoder
        label_norm='gn',
    )
    config.data = dict(
        sources=dict(
            davis_240p=dict(root='davis_240p', weight=0.6),
            davis_multi_240p=dict(root='davis_multi_240p', weight=0.4),
        ),
        batch_size=4,
        crop=(144, 208),
        num_slots=2,
        gap=((0, 1), (1000, 2), (1700, 3)),
        scale=(1.0, 2.0),
        stretch=0.1,
        rotation=15.0,
        shear=5.0,
        jitter=dict(rotation=4.0, scale=0.05, shear=2.0, shift=0.03),
        colour=dict(brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        paste=dict(probability=0.4),
        prefetch=3,
        cache_mb=600,
    )
    # ours: dice; propagation trains the keys before any decoder works
    config.loss = dict(dice=1.0, propagation=1.0)
    config.optimizer = dict(
        name='adamw',
        learning_rate=1e-3,
        schedule='cosine',
        warmup=100,
        end=1e-5,
        weight_decay=0.02,
        clip_norm=1.0,
    )
    config.training = dict(
        steps=2500,
        ema_decay=0.998,
        sequential_from=600,  # ours: true masks in the memory until this step
        unrolled=True,  # quicker on CPUs, see unroll.Unrolling
        log_every=20,
        checkpoint_every=100,
        evaluate_every=1250,
    )
    config.evaluation = dict(
        sources=dict(
            davis_240p=dict(root='davis_240p', split='val'),
            davis_multi_240p=dict(root='davis_multi_240p', split='val'),
        )
    )
    # ours: 8 frames instead of 5, which gave 59.7 and 58.9 instead of 60.2 and 59.0
    config.inference = dict(memory=dict(size=8))
    config.update_from_flattened_dict(VARIANTS[variant])
    return config
