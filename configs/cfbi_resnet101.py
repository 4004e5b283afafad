"""CFBI on YouTube-VOS: DeepLabv3+ with ResNet-101, 465x465 crops (Yang, Wei and Yang, ECCV 2020).

  vos-import --format=deeplabv3plus_resnet101 DEEPLAB.pth deeplab.npz
  python train.py --config=configs/cfbi_resnet101.py --workdir=runs/cfbi_resnet101 \
      --config.data.sources.youtube_vos.root=YOUTUBE_VOS --config.init=deeplab.npz \
      --config.evaluation.sources.davis.root=DAVIS

Released weights: vos-import --format=cfbi CFBI.pth cfbi.npz, then
evaluate.py --weights=cfbi.npz (published with --scales=1.0,1.15,1.3,1.5 --flip; the fast setting
is --model=global_atrous=2 --model=matching_dtype=bfloat16).

Published: 81.4 on YouTube-VOS 2018 val (81.8 by the released weights: batch 16, rate 0.02), J&F
81.9 on DAVIS-2017 val. Device, hours and J&F of this code: not yet measured.

The values are those of the released configuration; it holds no train loop, and what it leaves open
is marked `ours`. The ablations of Tables 4 and 5 are variants, meant for cfbi_resnet101_davis.py.
`tiny` is the same graph for tests, with a thousandth of the parameters.
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
TINY = {
    'model.backbone': dict(
        stem_width=8, depths=(1, 1, 1, 1), widths=(4, 8, 8, 16), channels=16, low_channels=8
    ),
    'model.embedding_channels': 8,
    'model.prehead_channels': 8,
    'model.head_channels': (16, 16, 16),
    'model.windows': (4, 1, 2),
    'data.batch_size': 2,
    'data.crop': (65, 65),
    'data.clip_length': 4,
    'data.num_slots': 2,
    'data.slot_window': 1,
    'data.gap': ((0, 1),),
    'data.num_workers': 0,
    'loss.hardest': ((0, 1.0), (10, 0.15)),
    'optimizer.warmup': 2,
    'training.steps': 20,
    'training.sequential_from': 10,
    'training.unrolled': True,
    'training.log_every': 5,
    'training.evaluate_every': 0,
}
VARIANTS = {'full': {}, 'tiny': TINY, **ABLATIONS}


def get_config(variant='full'):
    config = ConfigDict()
    # The model as released: BGR frames with the statistics of RGB. bfloat16 is ours; weights, norms
    # and distances are float32.
    config.model = dict(name='cfbi')
    config.data = dict(
        # the gap counts stored frames
        sources=dict(youtube_vos=dict(root='YouTube-VOS', kind='youtube_vos')),
        batch_size=8,
        crop=(465, 465),
        clip_length=5,  # reference, previous and three current frames
        num_slots=5,
        slot_window=8,  # ours
        reference='random',  # any frame of the video; the others follow each other
        gap=((0, 3),),  # stored frames
        scale=(1.0, 1.3),
        balanced_pixels=100,  # of the authors' later code; up to 5 draws
        num_workers=4,
        prefetch=3,
    )
    config.loss = dict(
        bce=0.0,
        hardest=((0, 1.0), (50_000, 0.15)),  # (step, share of pixels) points
        hardest_of='all',  # pixels, void ones too, as released
    )
    config.optimizer = dict(
        name='sgd',
        learning_rate=0.01,  # for a batch of 8; 0.02 for 16
        schedule='poly',
        warmup=1000,
        end=1e-5,
        power=0.9,
        weight_decay=1.5e-4,
        clip_norm=5.0,
    )
    config.training = dict(
        steps=100_000,
        predict_from=2,  # the previous frame comes with its true mask
        sequential_from=50_000,  # before that the previous mask is the true one
        keep=8,
    )
    config.evaluation = dict(sources=dict(davis=dict(root='DAVIS', split='val')))
    config.inference = dict(memory=dict(policy='given+previous', size=5, every=1, capacity=5))
    config.update_from_flattened_dict(VARIANTS[variant])
    return config
