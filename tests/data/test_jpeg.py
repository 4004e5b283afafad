"""JPEG with and without simplejpeg: the same pixels."""

import numpy as np
import pytest

simplejpeg = pytest.importorskip('simplejpeg', reason='pip install -e .[train]')

PROGRAM = """
import sys
sys.modules['simplejpeg'] = None  # as if it were not installed
import numpy as np
from pathlib import Path
from vos_jax.data import pictures
folder = Path(sys.argv[1])
for path in sorted(folder.glob('*.jpg')):
    np.save(path.with_suffix('.npy'), pictures.decode_jpeg(path.read_bytes()))
    height, width = pictures.decode_jpeg_header(path.read_bytes())[:2]
    wide = pictures.decode_jpeg(path.read_bytes(), 'RGBX', np.empty((height, width, 4), np.uint8))
    assert np.array_equal(wide[..., :3], np.load(path.with_suffix('.npy')))
(folder / 'written').write_bytes(pictures.encode_jpeg(np.full((9, 7, 3), 90, np.uint8)))
try:
    pictures.decode_jpeg(path.read_bytes()[:200])
except ValueError:
    print('refused')
"""


def test_pillow_reads_the_pixels_that_simplejpeg_does(run_python, rng, tmp_path):
    frame = rng.integers(0, 256, (45, 67, 3), np.uint8)
    files = {kind: simplejpeg.encode_jpeg(frame, 85, 'RGB', kind) for kind in ('444', '422', '420')}
    for kind, data in files.items():
        (tmp_path / f'{kind}.jpg').write_bytes(data)
    result = run_python(PROGRAM, tmp_path)
    assert result.stdout == 'refused\n', result.stderr
    for kind, data in files.items():
        np.testing.assert_array_equal(
            np.load(tmp_path / f'{kind}.npy'), simplejpeg.decode_jpeg(data), err_msg=kind
        )
    assert (simplejpeg.decode_jpeg((tmp_path / 'written').read_bytes()) == 90).all()
