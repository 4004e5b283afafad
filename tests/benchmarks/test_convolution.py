import pytest

from benchmarks import convolution


def test_layers_are_counted_over_the_frames_of_a_clip():
    found = convolution.layers_of('configs/stm_resnet50.py:tiny', (48, 64), 1)
    stem = {layer.image: times for layer, times in found.items() if layer.image[1:3] == (48, 64)}
    # Three frames at once; two are memorised, one after the other, with the masks.
    assert stem == {(3, 48, 64, 3): 1, (1, 48, 64, 5): 2}
    assert all(len(layer.kernel) == 4 for layer in found)


@pytest.mark.pytorch
def test_each_part_is_timed_in_three_ways():
    rows = convolution.measure(convolution.Layer((1, 8, 8, 4), (3, 3, 4, 4), padding=1), count=1)
    assert [row['part'] for row in rows] == list(convolution.PARTS)
    assert all(row[f'{way}_ms'] > 0 for row in rows for way in ('xla', 'ours', 'pytorch'))
