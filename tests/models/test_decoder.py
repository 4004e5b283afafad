import jax
import numpy as np

from tests.models.tiny import fill
from vos_jax.models.decoder import Decoder


def test_each_slot_is_decoded_as_if_it_were_alone(rng):
    value = rng.standard_normal((2, 2, 3, 4), np.float32)
    read = rng.standard_normal((2, 3, 2, 3, 5), np.float32)
    r3 = rng.standard_normal((2, 4, 6, 3), np.float32)
    r2 = rng.standard_normal((2, 8, 12, 2), np.float32)
    decoder = Decoder(4)
    variables = fill(jax.eval_shape(decoder.init, jax.random.key(0), value, read, r3, r2))
    decode = jax.jit(decoder.apply)
    together = np.asarray(decode(variables, value, read, r3, r2))
    assert together.shape == (2, 3, 8, 12, 1)
    assert together.dtype == np.float32
    assert abs(together[:, 0] - together[:, 1]).max() > 0.1
    for slot in range(3):
        alone = decode(variables, value, read[:, slot : slot + 1], r3, r2)
        np.testing.assert_allclose(together[:, slot], np.asarray(alone)[:, 0], atol=1e-5)
