"""State_dicts of PyTorch become variables of our models, and back, name by name."""

import json
import sys

import numpy as np
import pytest

from data_prep import import_weights, torch_reader, torch_writer
from data_prep.import_weights import FORMATS
from vos_jax import weights
from vos_jax.errors import InputError
from vos_jax.inference.segmenter import Segmenter
from vos_jax.models import torch_links

RESNET = FORMATS['torchvision_resnet50']
LEFT_OUT = {'fc.weight', 'layer4.0.conv1.weight'}


def zeros(shapes):
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


@pytest.fixture(scope='module')
def needed():
    return RESNET.needed()


@pytest.fixture(scope='module')
def resnet(needed):
    """A state_dict as torchvision's ResNet-50, its classifier among it."""
    rng = np.random.default_rng(5)
    taken = {name: rng.standard_normal(shape, np.float32) for name, shape in needed.items()}
    counters = {name: np.array(i, np.int64) for i, name in enumerate(RESNET.counter_names())}
    return {**taken, **counters, **dict.fromkeys(LEFT_OUT, np.ones((2, 4), np.float32))}


@pytest.fixture(scope='module')
def files(resnet, tmp_path_factory):
    """The checkpoint as DataParallel names it, imported, and exported again."""
    folder = tmp_path_factory.mktemp('weights')
    torch_writer.write(folder / 'in.pth', {f'module.{name}': a for name, a in resnet.items()})
    line = import_weights.import_weights(
        folder / 'in.pth', folder / 'x.npz', 'torchvision_resnet50'
    )
    import_weights.export_weights(folder / 'x.npz', folder / 'out.pth', 'torchvision_resnet50')
    return folder, line


def test_a_round_trip_gives_the_same_bits(files, resnet):
    folder, _ = files
    back = torch_reader.read(folder / 'out.pth')
    assert back.keys() == {f'module.{name}' for name in resnet.keys() - LEFT_OUT}
    for name in resnet.keys() - LEFT_OUT:
        assert back[f'module.{name}'].dtype == resnet[name].dtype
        assert back[f'module.{name}'].tobytes() == resnet[name].tobytes()


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(files, run_python, tmp_path):
    folder, _ = files
    (tmp_path / 'file').touch()
    code = "import runpy; runpy.run_module('vos_jax.commands.import_weights', run_name='__main__')"
    result = run_python(
        code,
        '--format=torchvision_resnet50',
        '--export',
        folder / 'x.npz',
        tmp_path / 'file' / 'out.pth',
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f'error: {tmp_path / "file"}: cannot be written (')


def test_the_prefix_can_be_chosen_on_the_way_back(files):
    folder, _ = files
    import_weights.export_weights(
        folder / 'x.npz', folder / 'bare.pth', 'torchvision_resnet50', prefix=''
    )
    assert 'conv1.weight' in torch_reader.read(folder / 'bare.pth')


def test_an_imported_file_holds_the_config_and_says_what_was_left_out(files):
    folder, line = files
    assert '2 left out' in line
    loaded = weights.load_weights(folder / 'x.npz')
    assert loaded.config['model']['encoder']['depths'] == (3, 4, 6)
    assert loaded.extra['source'] == 'in.pth'
    with pytest.raises(InputError, match=r"'model\.name' is 'encoder'"):
        Segmenter.from_pretrained(folder / 'x.npz')


def test_weights_of_another_model_are_not_exported(files):
    folder, _ = files
    with pytest.raises(InputError, match=r"x\.npz has no 'decoder/.*; --format=stm writes a"):
        import_weights.export_weights(folder / 'x.npz', folder / 'no.pth', 'stm')
    assert not (folder / 'no.pth').exists()


def test_kernels_are_transposed_and_norms_renamed(resnet):
    variables = import_weights.variables_of(resnet, RESNET, 'x')
    encoder, statistics = variables['params']['encoder'], variables['batch_stats']['encoder']
    theirs = resnet['layer2.0.conv2.weight']  # [out, in, kh, kw]
    assert encoder['res3_0']['conv2']['kernel'][2, 1, 7, 5] == theirs[5, 7, 2, 1]
    norm = statistics['res3_0']['norm2']['bn']
    for ours, name in dict(scale='weight', bias='bias', mean='running_mean').items():
        np.testing.assert_array_equal(norm[ours], resnet[f'layer2.0.bn2.{name}'])
    np.testing.assert_array_equal(
        statistics['res4_0']['shortcut_norm']['bn']['var'],
        resnet['layer3.0.downsample.1.running_var'],
    )


def test_every_array_of_ours_has_one_link():
    for kind in FORMATS.values():
        ours = [link.ours for link in kind.links]
        theirs = [name for link in kind.links for name in link.theirs]
        assert sorted(ours) == sorted(torch_links.below(kind.shapes()))
        assert len(theirs) == len(set(theirs))


def test_names_of_stm_are_those_of_the_released_code(shared):
    listed = json.loads(shared('parity/stm_names.json').read_text())
    needed, counters = FORMATS['stm'].needed(), FORMATS['stm'].counter_names()
    expected = {about['name']: tuple(about['shape']) for about in listed['tensors']}
    expected |= {name: tuple(about['shape']) for name, about in listed['constants'].items()}
    assert needed | dict.fromkeys(counters, ()) == expected


def test_joined_kernels_compute_the_sum_of_their_convolutions(rng):
    first, second = (rng.standard_normal((4, c, 3, 3)).astype(np.float32) for c in (3, 1))
    x = rng.standard_normal((3, 3, 4)).astype(np.float32)
    layout = torch_links.joined(3, 1)
    kernel = layout.to_ours(first, second)
    separate = np.einsum('oiyx,yxi->o', first, x[..., :3]) + np.einsum(
        'oiyx,yxi->o', second, x[..., 3:]
    )
    np.testing.assert_allclose(np.einsum('yxio,yxi->o', kernel, x), separate, rtol=1e-5)
    for part, back in zip((first, second), layout.to_theirs(kernel)):
        np.testing.assert_array_equal(back, part)


def test_a_rolled_kernel_takes_its_inputs_in_the_other_order(rng):
    theirs = rng.standard_normal((4, 5, 3, 3)).astype(np.float32)
    read, value = rng.standard_normal((3, 3, 2)), rng.standard_normal((3, 3, 3))
    layout = torch_links.rolled(2)
    kernel = layout.to_ours(theirs)
    expected = np.einsum('oiyx,yxi->o', theirs, np.concatenate([read, value], axis=-1))
    swapped = np.concatenate([value, read], axis=-1)
    np.testing.assert_allclose(np.einsum('yxio,yxi->o', kernel, swapped), expected, rtol=1e-5)
    np.testing.assert_array_equal(layout.to_theirs(kernel)[0], theirs)


def changed(arrays, **changes):
    """With other arrays under some names ('.' written as '__'); None takes one away."""
    arrays = dict(arrays)
    for name, value in changes.items():
        name = name.replace('__', '.')
        arrays.pop(name, None)
        if value is not None:
            arrays[name] = value
    return arrays


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'conv1__weight': None}, r'; 1 missing: conv1\.weight$'),
        ({'layer3__6__conv1__weight': ONE}, r'; 1 unexpected: layer3\.6\.conv1\.weight$'),
        ({'bn1__bias': ONE}, r'; 1 misshapen: bn1\.bias \[1\] for \[64\]$'),
        ({'conv1__weight': None, 'stem': ONE}, r'1 missing: conv1\.weight; 1 unexpected: stem$'),
        ({'bn1__bias': np.zeros(64, np.float16)}, r"'bn1\.bias' is float16; needed: float32, so"),
        ({'bn1__bias': np.full(64, np.nan, np.float32)}, r"'bn1\.bias' has values that are not f"),
    ],
)
def test_every_name_is_used_exactly_once(needed, changes, words):
    with pytest.raises(InputError, match=words) as error:
        import_weights.variables_of(changed(zeros(needed), **changes), RESNET, 'x.pth')
    assert str(error.value).startswith('x.pth: ')
    assert '\n' not in str(error.value)


def test_long_lists_of_names_are_cut():
    with pytest.raises(InputError, match=r'215 missing: conv1.weight, .* and 210 more$'):
        import_weights.variables_of({}, RESNET, 'x.pth')


def test_counters_may_be_absent(needed):
    assert import_weights.variables_of(zeros(needed), RESNET, 'x.pth')


def test_a_backbone_of_mask_rcnn_is_taken_and_its_heads_are_not(needed):
    theirs = {f'backbone.body.{name}': array for name, array in zeros(needed).items()}
    heads = ('backbone.fpn.inner_blocks.0.weight', 'rpn.head.conv.bias', 'roi_heads.box_head.fc6')
    kind = FORMATS['maskrcnn_resnet50']
    variables = import_weights.variables_of({**theirs, **dict.fromkeys(heads, ONE)}, kind, 'x.pth')
    assert variables['params']['encoder']['conv1']['kernel'].shape == (7, 7, 3, 64)
    with pytest.raises(InputError, match=r'215 missing: backbone\.body\.conv1\.weight'):
        import_weights.variables_of(zeros(needed), kind, 'x.pth')


def test_counters_are_taken_where_frozen_norms_are_usual(needed):
    """A Mask R-CNN that was not built from trained weights has BatchNorm, and so counters."""
    kind = FORMATS['maskrcnn_resnet50']
    theirs = {f'backbone.body.{name}': array for name, array in zeros(needed).items()}
    counters = dict.fromkeys(kind.counter_names(), np.array(3, np.int64))
    assert len(counters) == 43
    assert import_weights.variables_of({**theirs, **counters}, kind, 'x.pth')


@pytest.mark.parametrize('value', [np.zeros(2, np.int64), np.array(1.5, np.float32)])
def test_a_counter_that_is_no_number_is_refused(needed, tmp_path, value):
    theirs = {**zeros(needed), 'bn1.num_batches_tracked': value}
    torch_writer.write(tmp_path / 'x.pth', theirs)
    with pytest.raises(InputError, match=r"'bn1\.num_batches_tracked' is .*; needed: one whole n"):
        import_weights.import_weights(
            tmp_path / 'x.pth', tmp_path / 'x.npz', 'torchvision_resnet50'
        )
    assert not (tmp_path / 'x.npz').exists()


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_prefixes_of_wrapped_modules_come_back(needed, tmp_path, prefix):
    theirs = {f'{prefix}{name}': array for name, array in zeros(needed).items()}
    torch_writer.write(tmp_path / 'x.pth', theirs)
    import_weights.import_weights(tmp_path / 'x.pth', tmp_path / 'x.npz', 'torchvision_resnet50')
    import_weights.export_weights(tmp_path / 'x.npz', tmp_path / 'y.pth', 'torchvision_resnet50')
    assert torch_reader.read(tmp_path / 'y.pth').keys() == theirs.keys()


def test_stm_with_other_statistics_of_the_input_is_refused():
    theirs = zeros(FORMATS['stm'].needed()) | FORMATS['stm'].constants
    theirs['Encoder_Q.mean'] = np.full((1, 3, 1, 1), 0.5, np.float32)
    with pytest.raises(InputError, match=r"'Encoder_Q\.mean' is \[0\.5 0\.5 0\.5\], our models"):
        import_weights.variables_of(theirs, FORMATS['stm'], 'x.pth')


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--format=vgg', 'a.pth', 'b.npz'], "--format is 'vgg'; one of "),
        (['--format=stm', 'a.pth', 'b.npz'], 'a.pth: no such file'),
    ],
)
def test_the_command_ends_with_one_line_and_code_2(forks, arguments, words):
    command = [sys.executable, '-m', 'vos_jax.commands.import_weights']
    result = forks.run([*command, *arguments])
    assert result.returncode == 2
    assert result.stderr.startswith(f'error: {words}')
    assert result.stderr.count('\n') == 1
