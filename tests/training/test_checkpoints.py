import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import devices_flag
from vos_jax.checkpoint_files import list_steps, read_variables
from vos_jax.errors import InputError
from vos_jax.training.checkpoints import Checkpoints, restore_or_init

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))


@flax.struct.dataclass
class State:
    """A training state as the loop has it: arrays, optimizer, static parts, absent parts."""

    step: jax.Array
    params: Any
    batch_stats: Any
    ema: Any
    opt_state: Any
    name: str = flax.struct.field(pytree_node=False, default='giel')


def make_state(value=0.0, width=4, with_ema=False):
    params = {'key': {'kernel': jnp.full((2, width), value, jnp.float32), 'bias': jnp.arange(3.0)}}
    return State(
        step=jnp.int32(value),
        params=params,
        batch_stats={'bn': {'mean': jnp.full(3, value, jnp.bfloat16)}},
        ema=jax.tree.map(lambda x: x + 1, params) if with_ema else None,
        opt_state=OPTIMIZER.init(params),
    )


def assert_same(found, needed):
    assert jax.tree.structure(found) == jax.tree.structure(needed)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(needed)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def write_run(workdir, steps, keep=3):
    with Checkpoints(workdir, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step))


def restore(workdir, target=None):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(jax.eval_shape(make_state) if target is None else target)


def folder(workdir, step):
    return Path(workdir) / 'checkpoints' / 'latest' / str(step)


def largest_file(path):
    return max((p for p in path.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)


def test_state_and_record_come_back(place):
    with Checkpoints(place.url) as checkpoints:
        checkpoints.save(7, make_state(7), {'note': 'x'})
    state, record = restore(place.url)
    assert_same(state, make_state(7))
    assert (record['step'], record['note']) == (7, 'x')


def test_a_new_run_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path) is None


def test_the_newest_are_kept(place):
    write_run(place.url, [1, 2, 3, 4], keep=2)
    assert list_steps(place.url) == [3, 4]
    assert not [path for path in folder(place.disk, 1).rglob('*') if path.is_file()]


def test_some_are_kept_for_good(tmp_path):
    with Checkpoints(tmp_path, keep=2, keep_every=4) as checkpoints:
        for step in (2, 4, 6, 8, 9, 10, 11):
            checkpoints.save(step, make_state(step))
    assert list_steps(tmp_path) == [4, 8, 10, 11]


def test_saving_the_same_step_again_is_harmless(tmp_path):
    write_run(tmp_path, [1])
    write_run(tmp_path, [1, 2])
    assert restore(tmp_path)[1]['step'] == 2


def test_a_python_number_in_the_state_is_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {'step': 3})
    state, _ = restore(tmp_path, jax.eval_shape(lambda: {'step': 0}))
    assert state['step'] == 3


def test_a_donated_state_is_saved_as_it_was(place):
    @jax.jit
    def init():
        return {'w': jnp.zeros(2_000_000)}

    step = jax.jit(lambda state: {'w': state['w'] + 1}, donate_argnums=0)
    state = init()
    with Checkpoints(place.url) as checkpoints:
        checkpoints.save(0, state)
        for _ in range(20):
            state = step(state)
    restored, _ = restore(place.url, jax.eval_shape(init))
    assert not np.asarray(restored['w']).any()


def test_best_by_score_stays_when_newer_are_worse(place):
    with Checkpoints(place.url, keep_best=1) as checkpoints:
        for step, jf in [(1, 0.3), (2, 0.9), (3, 0.8), (4, 0.1)]:
            checkpoints.save_best(step, {'params': make_state(step).params}, jf)
            checkpoints.save(step, make_state(step))
    variables, record = read_variables(place.url)
    assert (record['step'], record['jf']) == (2, 0.9)
    assert_same(variables, {'params': make_state(2).params})
    assert read_variables(place.url, 'latest')[1]['step'] == 4


def test_the_newest_is_evaluated_where_no_best_is(tmp_path):
    write_run(tmp_path, [1, 2])
    variables, record = read_variables(tmp_path)
    assert record['step'] == 2
    state = make_state(2)
    assert_same(variables, {'params': state.params, 'batch_stats': state.batch_stats})


def test_averaged_weights_are_what_is_evaluated(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, make_state(5, with_ema=True))
    variables, _ = read_variables(tmp_path)
    assert_same(variables['params'], make_state(5, with_ema=True).ema)


def test_reading_variables_of_no_run_says_what_a_workdir_is(tmp_path):
    with pytest.raises(InputError, match='no checkpoint; --workdir names'):
        read_variables(tmp_path)


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    write_run(tmp_path, [1])
    folder(tmp_path, 8).mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 1
        _, record = checkpoints.restore(make_state())
        assert record['step'] == 1
        checkpoints.save(8, make_state(8))
    assert restore(tmp_path)[1]['step'] == 8


def test_an_empty_folder_alone_is_a_new_run(tmp_path):
    folder(tmp_path, 8).mkdir(parents=True)
    assert restore(tmp_path) is None


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 4, len(content), 16):
        content[position] ^= 0x40
    path.write_bytes(bytes(content))


def truncate_data(checkpoint):
    truncate(largest_file(checkpoint / 'state'))


def change_data(checkpoint):
    flip(largest_file(checkpoint / 'state'))


def lose_manifest(checkpoint):
    (checkpoint / 'state' / 'manifest.ocdbt').unlink()


def lose_record(checkpoint):
    (checkpoint / 'record' / 'metadata').unlink()


def empty_record(checkpoint):
    (checkpoint / 'record' / 'metadata').write_bytes(b'')


@pytest.mark.parametrize(
    'harm', [truncate_data, change_data, lose_manifest, lose_record, empty_record]
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(place, caplog, harm):
    write_run(place.url, [1, 2])
    harm(folder(place.disk, 2))
    state, record = restore(place.url)
    assert_same(state, make_state(1))
    assert record['step'] == 1
    assert re.search(r'latest/2 cannot be read.*resuming from step 1', caplog.text, re.DOTALL)


def test_one_changed_bit_in_the_data_is_noticed(place):
    value = np.float32(1234.5)
    tree = {'w': jnp.asarray(np.random.default_rng(0).normal(size=50_000).astype(np.float32))}
    tree['w'] = tree['w'].at[25_000].set(value)
    with Checkpoints(place.url) as checkpoints:
        checkpoints.save(1, tree)
    path = largest_file(folder(place.disk, 1) / 'state')
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match='latest/1: damaged'):
        restore(place.url, tree)


def test_after_falling_back_the_damaged_step_is_saved_anew(place):
    write_run(place.url, [1, 2])
    truncate(largest_file(folder(place.disk, 2) / 'state'))
    with Checkpoints(place.url) as checkpoints:
        checkpoints.restore(make_state())
        checkpoints.save(2, make_state(20))
    assert_same(restore(place.url)[0], make_state(20))
    # Nothing can be renamed in a bucket: what was saved took its place.
    is_local = place.url == place.disk
    assert (folder(place.disk, 2).parent / '2.damaged').is_dir() == is_local


def change_record(checkpoint, **values):
    path = checkpoint / 'record' / 'metadata'
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replace_by_another_step(checkpoint):
    shutil.rmtree(checkpoint)
    shutil.copytree(checkpoint.with_name('1'), checkpoint)


def lower_the_step(checkpoint):
    change_record(checkpoint, step=1)


def negate_the_step(checkpoint):
    change_record(checkpoint, step=-2)


def state_another_shape(checkpoint):
    leaves = json.loads((checkpoint / 'record' / 'metadata').read_text())['leaves']
    leaves['params/key/kernel']['shape'] = [4, 2]
    change_record(checkpoint, leaves=leaves)


@pytest.mark.parametrize(
    'harm', [replace_by_another_step, lower_the_step, negate_the_step, state_another_shape]
)
def test_a_checkpoint_that_is_not_what_its_record_says_is_damaged(tmp_path, caplog, harm):
    write_run(tmp_path, [1, 2])
    harm(folder(tmp_path, 2))
    with Checkpoints(tmp_path) as checkpoints:
        state, record = checkpoints.restore(jax.eval_shape(make_state))
        assert_same(state, make_state(1))
        assert record['step'] == 1
        checkpoints.save(2, make_state(2))
    assert re.search(r'latest/2 cannot be read: the record', caplog.text)
    assert_same(restore(tmp_path)[0], make_state(2))


@pytest.mark.parametrize('kind', ['latest', 'best'])
def test_a_step_that_holds_another_state_is_not_taken_for_saved(place, caplog, kind):
    with Checkpoints(place.url, keep=3) as checkpoints:
        checkpoints.save(1, make_state(1))
        checkpoints.save(2, make_state(2))
        checkpoints.save_best(2, {'params': make_state(2).params}, 0.5)
    with Checkpoints(place.url, keep=3) as checkpoints:
        checkpoints.save(2, make_state(20))
        checkpoints.save_best(2, {'params': make_state(20).params}, 0.5)
    assert f'{kind}/2 is of another state' in caplog.text
    variables, _ = read_variables(place.url, kind)
    assert_same(variables['params'], make_state(20).params)


def test_the_last_save_is_read_back(place):
    checkpoints = Checkpoints(place.url)
    checkpoints.save(1, make_state(1))
    checkpoints.save(2, make_state(2))
    checkpoints.wait()
    change_data(folder(place.disk, 2))
    with pytest.raises(InputError, match='latest/2: what was saved last cannot be read back'):
        checkpoints.close()


@pytest.mark.slow
def test_an_upload_that_was_not_finished_is_no_checkpoint(gcs, caplog):
    place = gcs()
    write_run(place.url, [1, 2])
    (folder(place.disk, 2) / 'commit_success.txt').unlink()
    assert list_steps(place.url) == [1]
    assert read_variables(place.url, 'latest')[1]['step'] == 1
    assert 'latest/2 is left out: its upload was not finished' in caplog.text
    assert restore(place.url)[1]['step'] == 1
    assert not (folder(place.disk, 2) / 'record' / 'metadata').exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_of_a_bucket_is_marked_and_not_copied(gcs):
    place = gcs()
    write_run(place.url, [1, 2])
    lose_record(folder(place.disk, 2))
    restore(place.url)
    assert (folder(place.disk, 2) / 'damaged.txt').is_file()
    assert restore(place.url)[1]['step'] == 1
    assert (folder(place.disk, 2) / 'state' / 'manifest.ocdbt').is_file()  # still there to look at
    assert list_steps(place.url) == [1]


def lay_a_file(path):
    path.write_text('')


def lay_an_empty_folder(path):
    path.mkdir()


def lay_a_folder_of_another_name(path):
    shutil.copytree(path.with_name('1'), path.with_name(f'00{path.name}'))


STRAYS = [lay_a_file, lay_an_empty_folder, lay_a_folder_of_another_name]


@pytest.mark.parametrize('lay', STRAYS)
def test_what_is_no_checkpoint_is_reported_and_gives_way(tmp_path, caplog, lay):
    write_run(tmp_path, [1])
    lay(folder(tmp_path, 2))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 1
        assert checkpoints.restore(make_state())[1]['step'] == 1
        checkpoints.save(2, make_state(2))
    assert re.search(r'latest/(00)?2 was (removed|renamed)', caplog.text)
    assert_same(restore(tmp_path)[0], make_state(2))


@pytest.mark.parametrize('lay', STRAYS)
def test_what_is_no_checkpoint_is_reported_where_weights_are_read(tmp_path, caplog, lay):
    write_run(tmp_path, [1])
    lay(folder(tmp_path, 2))
    assert read_variables(tmp_path, 'latest')[1]['step'] == 1
    assert re.search(r'latest/(00)?2 is left out', caplog.text)
    assert list_steps(tmp_path) == [1]


def test_a_damaged_record_of_the_best_is_one_line(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_best(3, {'params': make_state(3).params}, 0.5)
    empty_record(tmp_path / 'checkpoints' / 'best' / '3')
    with pytest.raises(InputError, match='best/3: damaged'):
        read_variables(tmp_path, 'best')


def test_where_none_can_be_read_nothing_is_started_or_renamed(tmp_path):
    write_run(tmp_path, [1, 2])
    for step in (1, 2):
        truncate(largest_file(folder(tmp_path, step) / 'state'))
    with pytest.raises(InputError, match='latest/2: damaged, and there is no older checkpoint'):
        restore(tmp_path)
    assert folder(tmp_path, 1).is_dir()
    assert folder(tmp_path, 2).is_dir()


def test_damaged_weights_are_not_evaluated(tmp_path):
    write_run(tmp_path, [1, 2])
    flip(largest_file(folder(tmp_path, 2) / 'state'))
    with pytest.raises(InputError, match='latest/2: damaged'):
        read_variables(tmp_path)


def test_another_model_is_refused_by_leaf_shapes_and_remedy(tmp_path):
    write_run(tmp_path, [1])
    with pytest.raises(InputError) as caught:
        restore(tmp_path, make_state(width=5))
    assert str(caught.value) == (
        f"checkpoint {folder(tmp_path, 1)} has 'opt_state/1/0/mu/key/kernel' of shape [2, 4], "
        f'this config needs [2, 5] (and 2 more); use the config stored in {tmp_path}, '
        'or a new --workdir'
    )


def test_a_leaf_that_the_checkpoint_lacks_is_named(tmp_path):
    write_run(tmp_path, [1])
    with pytest.raises(InputError, match="has no 'ema/key/bias', which this config needs"):
        restore(tmp_path, make_state(with_ema=True))


def test_order_of_starting_checkpoint_then_weights_then_random(tmp_path):
    def warm_start(state):
        return state.replace(params=jax.tree.map(lambda x: x + 100, state.params))

    def start(**options):
        with Checkpoints(tmp_path) as checkpoints:
            return restore_or_init(checkpoints, make_state, **options)

    assert_same(start()[0], make_state())
    assert_same(start(warm_start=warm_start)[0], warm_start(make_state()))
    write_run(tmp_path, [3])
    state, step = start(warm_start=warm_start)
    assert_same(state, make_state(3))
    assert step == 3


SAVE_AND_SAVE = """
import sys
import jax.numpy as jnp
from vos_jax.training.checkpoints import Checkpoints

with Checkpoints(sys.argv[1]) as checkpoints:
    for step in range(1, 1000):
        checkpoints.save(step, {'w': jnp.full(4_000_000, float(step))})
        print('saving', step, flush=True)
"""


@pytest.mark.parametrize('saves', [1, 3])
def test_a_run_killed_while_it_saves_resumes_from_a_whole_checkpoint(place, saves):
    process = subprocess.Popen(
        [sys.executable, '-c', SAVE_AND_SAVE, str(place.url)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(saves):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)  # the save just announced goes on in the background
    process.communicate()
    restored = restore(place.url, {'w': jnp.zeros(4_000_000)})
    if restored is not None:
        state, record = restored
        assert record['step'] >= saves - 1
        np.testing.assert_array_equal(state['w'], float(record['step']))
    else:
        assert saves == 1
    assert not list(place.disk.rglob('*tmp*'))


RESTORE_ON_TWO = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from vos_jax.training.checkpoints import Checkpoints

def sharded(devices):
    mesh = jax.make_mesh((devices,), ('data',), axis_types=(AxisType.Auto,),
                         devices=jax.devices()[:devices])
    return jax.device_put(np.arange(16.0, dtype=np.float32), NamedSharding(mesh, P('data')))

with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save(1, {'w': sharded(8)})
with Checkpoints(sys.argv[1]) as checkpoints:
    state, _ = checkpoints.restore({'w': sharded(2)})
assert len(state['w'].sharding.device_set) == 2
np.testing.assert_array_equal(state['w'], np.arange(16.0))
"""


def test_a_checkpoint_of_eight_devices_restores_onto_two(place, run_python):
    result = run_python(RESTORE_ON_TWO, place.url, XLA_FLAGS=devices_flag(8))
    assert result.returncode == 0, result.stderr


def test_the_module_needs_no_data_or_config_library(run_python):
    code = (
        'import sys, vos_jax.training.checkpoints\n'
        "print({'clu', 'grain', 'ml_collections', 'tensorflow'} & set(sys.modules))"
    )
    assert run_python(code).stdout.strip() == 'set()'
