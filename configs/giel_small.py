"""GIEL, small: trains from nothing on small real video on a CPU.

The same graph as `giel_resnet50.py` with a narrow GroupNorm encoder and memory cells of 8 pixels.

  python train.py --config=configs/giel_small.py --workdir=runs/giel_small
  vos-export --workdir=runs/giel_small --out=runs/giel_small.npz
  python train.py --config=configs/giel_small.py:refine --config.init=runs/giel_small.npz \
      --workdir=runs/giel_small_refine

2,500 steps, 113 CPU minutes on two cores that had other work too: J&F 57.2 on the val sequences
with one object, 59.7 on those with several (2026-11-21). 600 more steps of `:refine`, 97 CPU
minutes: 59.7 and 58.9, and 60.2 and 59.0 with 8 frames of memory in place of 5 (2026-11-25).
See vos_jax/pretrained/README.md.
"""

from ml_collections import ConfigDict

STEPS = 2500
VARIANTS = ('full', 'refine', 'tiny')


def get_config(variant='full'):
    """Variants: 'full'; 'refine' goes on from its weights; 'tiny' for tests and the demo."""
    if variant not in VARIANTS:
        raise ValueError(
            f"configs/giel_small.py: variant '{variant}' is not one of {', '.join(VARIANTS)}"
        )
    config = ConfigDict()
    config.seed = 0
    config.init = ''  # weights file to start from; '': random
    config.model = dict(
        name='giel',
        dtype='float32',
        encoder=dict(
            block='basic',
            stem='small',
            stem_width=32,
            depths=(2, 2, 2),
            widths=(48, 96, 128),
            strides=(2, 2, 1),
            dilations=(1, 1, 1),
            norm='gn',
        ),
        key_channels=64,
        value_channels=96,
        decoder_channels=32,
        variant='full',
        affinity='l2',  # ours: converges faster from nothing
        affinity_scale=True,
        learn_temperature=True,
        locality='random_walk',  # ours: from nothing, near cells are the better first guess
        inject_mask=True,  # ours: the mask reaches all stages of the support encoder
        label_norm='gn',
    )
    config.data = dict(
        sources=dict(
            davis_240p=dict(root='../shared/data/davis_240p', split='train', weight=0.6),
            davis_multi_240p=dict(
                root='../shared/data/davis_multi_240p', split='train', weight=0.4
            ),
        ),
        batch_size=4,
        crop=(144, 208),
        clip_length=4,
        num_slots=2,
        gap=((0, 1), (1000, 2), (1700, 3)),
        scale=(1.0, 2.0),
        stretch=0.1,
        rotation=15.0,
        shear=5.0,
        jitter=dict(rotation=4.0, scale=0.05, shear=2.0, shift=0.03),
        colour=dict(brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        paste=dict(probability=0.4, objects=1),
        num_workers=0,
        num_threads=2,
        prefetch=3,
        cache_mb=600,
    )
    config.loss = dict(
        bce=1.0,
        ce=1.0,
        dice=1.0,  # ours
        propagation=1.0,  # ours: trains the keys before any decoder works
        hardest=(),  # (step, share of pixels) points; () all pixels
    )
    config.optimizer = dict(
        name='adamw',
        learning_rate=1e-3,
        schedule='cosine',
        warmup=100,
        end=1e-5,
        power=1.0,
        weight_decay=0.02,
        momentum=0.9,
        clip_norm=1.0,
    )
    config.training = dict(
        steps=STEPS,
        ema_decay=0.998,
        sequential_from=600,  # ours: true masks in the memory until this step
        remat='none',
        unrolled=True,  # loops are slow on CPUs, see unroll.unroll
        log_every=20,
        checkpoint_every=100,
        keep=2,  # newest checkpoints kept, beside the best one
        evaluate_every=1250,
    )
    config.evaluation = dict(
        sources=dict(
            davis_240p=dict(root='../shared/data/davis_240p', split='val'),
            davis_multi_240p=dict(root='../shared/data/davis_multi_240p', split='val'),
        ),
        max_frames=0,  # of each sequence; 0: all
        max_sequences=0,  # of each source; 0: all
    )
    # ours: 8 frames in place of 5, which gave 59.7 and 58.9 in place of 60.2 and 59.0
    config.inference = dict(memory=dict(policy='sample', size=8, every=5, capacity=64))
    if variant == 'refine':
        _refine(config)
    elif variant == 'tiny':
        _make_tiny(config)
    return config


def _refine(config):
    """A second stage at the size of the test frames: more of a frame, hence more look-alikes.

    `config.init` names the exported weights of the first stage.
    """
    config.data.update(batch_size=3, crop=(192, 288), gap=((0, 3),), scale=(0.9, 1.7))
    config.data.paste.update(probability=0.6)
    config.loss.hardest = ((0, 1.0), (400, 0.4))
    config.optimizer.update(learning_rate=5e-4, warmup=50)
    config.training.update(steps=600, sequential_from=0, ema_decay=0.995, evaluate_every=600)


def _make_tiny(config):
    """A tenth of the work a step, for `make demo` and the tests: on made-up video, in minutes."""
    config.model.encoder.update(stem_width=16, widths=(16, 32, 48), depths=(1, 1, 1))
    config.model.update(key_channels=32, value_channels=48, decoder_channels=16)
    root = 'runs/demo/data'
    config.data.sources = dict(synthetic=dict(root=root, split='train', weight=1.0))
    config.data.update(crop=(96, 144), gap=((0, 1),))
    config.evaluation.sources = dict(synthetic=dict(root=root, split='val'))
    config.training.update(
        steps=300, sequential_from=100, evaluate_every=300, ema_decay=0.98, checkpoint_every=100
    )
    config.optimizer.update(learning_rate=2e-3, warmup=30)
