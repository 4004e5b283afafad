"""The benchmark of CFBI's matchings: both codes compute the same, the command prints a table."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import matching as benchmark
from vos_jax.models.cfbi.spec import WINDOWS
from vos_jax.ops import matching

SIZE = (65, 97)
SLOTS = 3


@pytest.mark.pytorch
@pytest.mark.parametrize('kind', ['global', 'local'])
def test_the_plain_version_has_the_same_distances_and_gradients(kind):
    from benchmarks.pytorch import matching as plain

    query, reference, labels = benchmark.make_inputs(kind, SIZE, SLOTS - 1)
    arrays = query, reference, labels
    expected = plain.runner(kind, 'forward', arrays, SLOTS, WINDOWS)()
    near = expected < matching.FAR

    @jax.jit
    def loss(query, reference):
        distances = benchmark.match(kind, query, reference, labels, SLOTS, 'float32')
        return matching.proxy(distances, 0.0).sum(), distances[0]

    (total, found), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        jnp.asarray(query), jnp.asarray(reference)
    )
    # Squared norms are about 50.
    np.testing.assert_allclose(np.asarray(found)[near], expected[near], atol=2e-4)
    assert (np.asarray(found)[~near] >= matching.FAR).all()
    other, *others = plain.runner(kind, 'gradient', arrays, SLOTS, WINDOWS)()
    np.testing.assert_allclose(total, other, rtol=1e-5)
    for gradient, theirs in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient[0], theirs, atol=1e-4)


@pytest.mark.long
def test_the_command_prints_a_row_for_each_part(tmp_path):
    out = tmp_path / 'matching.json'
    flags = ['--size=97x65', '--objects=1,2', '--runs=1', f'--out={out}']
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.matching', *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())['rows']
    expected = {
        (kind, part, objects)
        for kind in ('global', 'local')
        for part in ('forward', 'gradient')
        for objects in (1, 2)
    }
    assert {(row['kind'], row['part'], row['objects']) for row in rows} == expected
    assert all(row['ms'] > 0 for row in rows)
