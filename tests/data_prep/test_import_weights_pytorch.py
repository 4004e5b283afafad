"""PyTorch itself writes what we read, and reads what we write."""

import collections

import ml_dtypes
import numpy as np
import pytest

from data_prep import torch_reader, torch_writer
from vos_jax.errors import InputError

pytestmark = pytest.mark.pytorch


@pytest.fixture(scope='module')
def torch():
    return pytest.importorskip('torch')


def unit(torch):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))


@pytest.mark.parametrize('is_new', [True, False])
def test_a_state_dict_of_a_module_is_read_bit_by_bit(torch, tmp_path, is_new):
    theirs = unit(torch).state_dict()
    torch.save(theirs, tmp_path / 'x.pth', _use_new_zipfile_serialization=is_new)
    ours = torch_reader.read(tmp_path / 'x.pth')
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(ours[name], tensor.numpy())


@pytest.mark.parametrize('is_new', [True, False])
def test_views_parameters_and_all_dtypes_are_read(torch, tmp_path, is_new):
    base = torch.arange(12.0).reshape(3, 4)
    theirs = {
        'transposed': base.T,
        'part': base[1:, 2],
        'parameter': torch.nn.Parameter(base),
        'scalar': torch.tensor(2.5),
        'empty': torch.zeros(0, 3),
        'half': base.half(),
        'double': base.double(),
        'byte': base.byte(),
        'flags': base > 3,
    }
    wrapped = {'state_dict': {**theirs, 'bfloat': base.bfloat16()}, 'epoch': 3}
    torch.save(wrapped, tmp_path / 'x.pth', _use_new_zipfile_serialization=is_new)
    ours = torch_reader.read(tmp_path / 'x.pth')
    for name, tensor in theirs.items():
        expected = tensor.detach().numpy()
        assert ours[name].dtype == expected.dtype
        np.testing.assert_array_equal(ours[name], expected)
    assert ours['bfloat'].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(ours['bfloat'].astype(np.float32), base.numpy())


@pytest.mark.parametrize('mmap', [True, False])
def test_what_we_write_is_read_without_trust(torch, tmp_path, rng, mmap):
    arrays = {
        'w': rng.standard_normal((4, 3, 2, 5)).astype(np.float32),
        'transposed': rng.standard_normal((4, 3)).astype(np.float32).T,
        'bn.num_batches_tracked': np.array(7, np.int64),
        'empty': np.zeros((0, 3), np.float32),
    }
    torch_writer.write(tmp_path / 'x.pth', arrays)
    theirs = torch.load(tmp_path / 'x.pth', weights_only=True, mmap=mmap)
    assert isinstance(theirs, collections.OrderedDict)
    assert list(theirs) == list(arrays)
    for name, array in arrays.items():
        assert theirs[name].is_contiguous()
        assert theirs[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(theirs[name].numpy(), array)


def test_a_module_loads_what_we_write_strictly(torch, tmp_path):
    module = unit(torch)
    arrays = {name: tensor.numpy() for name, tensor in unit(torch).state_dict().items()}
    torch_writer.write(tmp_path / 'x.pth', arrays)
    module.load_state_dict(torch.load(tmp_path / 'x.pth', weights_only=True), strict=True)
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[name])


@pytest.mark.parametrize('is_new', [True, False])
def test_a_pickled_module_is_refused_by_name(torch, tmp_path, is_new):
    torch.save(unit(torch), tmp_path / 'x.pth', _use_new_zipfile_serialization=is_new)
    with pytest.raises(InputError, match=r'names torch\.nn\.modules\.\S+, .* nothing of it was ru'):
        torch_reader.read(tmp_path / 'x.pth')
