"""GIEL and its PyTorch twin: the same weights on the same clip give the same numbers."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.models.tiny import SPEC, clip, giel, quick_jit, variables_of
from vos_jax.inference import rollout
from vos_jax.models.resnet import EncoderSpec
from vos_jax.ops import aggregation
from vos_jax.training import losses

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
from benchmarks.pytorch import giel as twin  # noqa: E402
from benchmarks.pytorch import giel_clip, weights  # noqa: E402

pytestmark = pytest.mark.pytorch

LOSS = {'bce': 1.0, 'ce': 1.0, 'dice': 1.0, 'propagation': 1.0}
BOTTLENECK = EncoderSpec(
    stem_width=8, depths=(1, 2, 1), widths=(4, 4, 8), strides=(1, 2, 2), norm='frozen_bn'
)
MODELS = {
    'as published': giel(encoder=BOTTLENECK),
    'as giel_small': giel(
        encoder=dataclasses.replace(SPEC.encoder, norm='gn'),
        affinity='l2',
        learn_temperature=True,
        locality='random_walk',
        inject_mask=True,
        label_norm='gn',
    ),
    'fast': giel(variant='fast', encoder=dataclasses.replace(SPEC.encoder, norm='gn')),
}


@pytest.fixture(params=MODELS, scope='module')
def case(request):
    """Outputs, loss and gradients of both, for a clip of which one slot is not in use."""
    model = MODELS[request.param]
    # With the full scale logits reach 46, and float32 differs by 2e-4 from float64 in PyTorch too.
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0.7 * leaf if path[-1].key == 'kernel' else leaf, variables_of(model)
    )
    batch = clip(batch=2, length=4, size=(38, 54), num_slots=3, num_objects=2)
    batch['labels'][:, 1:, -3:] = 255
    return in_jax(model, variables, batch), in_pytorch(model, variables, batch)


def in_jax(model, variables, batch):
    def loss_of(params, frames, labels, objects):
        given = aggregation.one_hot_masks(labels[:, 0], objects.shape[1])
        outputs, _ = rollout.unroll(
            model,
            {**variables, 'params': params},
            frames,
            given,
            objects,
            train=True,
            labels=labels,
        )
        return losses.clip_loss(outputs, labels, objects, LOSS, model.stride)[0], outputs

    step = quick_jit(jax.value_and_grad(loss_of, has_aux=True))
    arguments = batch['frames'], batch['labels'], batch['objects']
    (loss, outputs), gradients = jax.device_get(step(variables['params'], *arguments))
    return outputs, loss, gradients


def in_pytorch(model, variables, batch):
    module = twin.GIEL(model.spec)
    weights.load_flax(module, variables)
    frames, labels, objects = (
        torch.from_numpy(batch[name]) for name in ('frames', 'labels', 'objects')
    )
    outputs = giel_clip.unroll(module.train(), frames, labels, objects)
    loss = giel_clip.clip_loss(outputs, labels, objects, LOSS, module.stride)
    loss.backward()
    gradients = {name: value.grad for name, value in module.named_parameters()}
    names = ('logits', 'foreground_logits', 'propagated')
    outputs = {name: part.detach().numpy() for name, part in zip(names, outputs)}
    return outputs, loss.item(), weights.read_flax(gradients, variables['params'])


def test_probabilities_are_equal(case):
    (ours, _, _), (its, _, _) = case
    for outputs in (ours, its):
        outputs['probabilities'] = np.asarray(jax.nn.softmax(outputs['logits'], axis=2))
        outputs['foreground'] = np.asarray(jax.nn.sigmoid(outputs['foreground_logits']))
    for name in ('probabilities', 'foreground', 'propagated'):
        np.testing.assert_allclose(ours[name], its[name], atol=1e-4, err_msg=name)


def test_the_loss_is_equal(case):
    (_, ours, _), (_, its, _) = case
    np.testing.assert_allclose(ours, its, rtol=1e-5)


def test_gradients_are_equal(case):
    (_, _, ours), (_, _, its) = case
    ours, _ = jax.tree_util.tree_flatten_with_path(ours)
    largest = max(np.linalg.norm(gradient) for _, gradient in ours)
    for (path, gradient), other in zip(ours, jax.tree.leaves(its), strict=True):
        difference = np.linalg.norm(gradient - other)
        # The second term: gradients that cancel out are rounding of others a million times larger.
        tolerance = 1e-3 * np.linalg.norm(gradient) + 1e-6 * largest
        assert difference <= tolerance, jax.tree_util.keystr(path)


def test_weights_go_there_and_back():
    model = MODELS['as giel_small']
    variables = variables_of(model)
    module = twin.GIEL(model.spec)
    weights.load_flax(module, variables)
    back = weights.read_flax(module.state_dict(), variables['params'])
    jax.tree.map(np.testing.assert_array_equal, back, variables['params'])
