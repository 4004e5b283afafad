"""The names of the released CFBI checkpoint, and of the DeepLabv3+ it started from."""

import json

import numpy as np
import pytest

from data_prep import import_weights
from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.models import torch_links
from vos_jax.models.cfbi.torch_names import FORMATS


def test_every_name_of_the_release_has_one_place_and_comes_back_bit_by_bit(
    cfbi_state_dict, cfbi_variables, shared
):
    kind = FORMATS['cfbi']
    back = torch_links.to_theirs(kind.links, torch_links.below(cfbi_variables))
    listed = json.loads(shared('parity/cfbi_names.json').read_text())['tensors']
    assert back.keys() == {tensor['name'] for tensor in listed}
    assert [n for n in back if not np.array_equal(back[n], cfbi_state_dict[n])] == []


def test_the_model_has_the_values_of_the_release(cfbi_variables):
    sizes = dict.fromkeys(('params', 'batch_stats'), 0)
    for name, array in weights.named(cfbi_variables).items():
        sizes[name.partition('/')[0]] += array.size
    assert sizes == {'params': 66_045_376, 'batch_stats': 219_072}


def test_two_names_of_one_tensor_must_agree(cfbi_state_dict):
    other = cfbi_state_dict | {'semantic_embedding.4.bias': cfbi_state_dict['bn2.bias'] + 1}
    with pytest.raises(InputError, match=r'bn2\.bias and semantic_embedding\.4\.bias differ'):
        import_weights.variables_of(other, FORMATS['cfbi'], 'cfbi.pth')


def test_missing_and_unexpected_names_are_listed(cfbi_state_dict):
    other = dict(cfbi_state_dict)
    other['bg_offset'] = other.pop('bg_bias')
    with pytest.raises(InputError, match=r'1 missing: bg_bias.*1 unexpected: bg_offset'):
        import_weights.variables_of(other, FORMATS['cfbi'], 'cfbi.pth')


def test_a_deeplab_checkpoint_fills_the_backbone(cfbi_state_dict, cfbi_variables):
    prefix = 'feature_extracter.'
    deeplab = {
        name.removeprefix(prefix): array
        for name, array in cfbi_state_dict.items()
        if name.startswith(prefix)
    }
    classifier = {'weight': np.zeros((21, 256, 1, 1), np.float32), 'bias': np.zeros(21, np.float32)}
    deeplab |= {f'decoder.last_conv.8.{name}': array for name, array in classifier.items()}
    kind = FORMATS['deeplabv3plus_resnet101']
    found = weights.named(import_weights.variables_of(deeplab, kind, 'deeplab.pth'))
    expected = {
        n: a for n, a in weights.named(cfbi_variables).items() if n.split('/')[1] == 'backbone'
    }
    assert found.keys() == expected.keys()
    assert [n for n in found if not np.array_equal(found[n], expected[n])] == []
