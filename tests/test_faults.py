"""Every command with every fault of its files: one line, exit code 2, nothing left behind."""

import ctypes
import resource
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.forks import fill_disk
from tests.training import micro
from vos_jax.data import scenes
from vos_jax.evaluation import output_files, protocols
from vos_jax.evaluation.predictions import Predictions

SEQUENCE = 'synthetic-0000'


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """A folder with what the commands read: data, a video, masks, results, an encoder."""
    root = tmp_path_factory.mktemp('inputs')
    data = root / 'data'
    scenes.write_dataset(data, num_train=2, num_val=1, frames=3, size=(64, 96), seed=0)
    name = next((data / 'JPEGImages/64p').iterdir()).name
    shutil.copytree(data / 'JPEGImages/64p' / name, root / 'video')
    shutil.copy(data / 'Annotations/64p' / name / '00000.png', root / 'mask.png')
    shutil.copytree(data / 'Annotations/64p', root / 'masks')
    (root / 'stm.pth').write_bytes(b'a checkpoint')
    (root / 'recipe.py').write_text('from configs.giel_small import get_config\n')
    (root / 'run').mkdir()
    protocol = protocols.load('davis2017', data, None, resolution=None, dense=False)
    for which in ('a', 'b'):
        output_files.score_results(
            protocol, Predictions(root / 'masks'), root / which, report=False
        )
    return root


def module(name, *arguments):
    return [sys.executable, '-m', name, *arguments]


def script(name, *arguments):
    return [sys.executable, str(REPOSITORY / name), *arguments]


def train(root, out):
    return micro.command(root / 'data', out)


def evaluate(root, out):
    flags = ['--protocol=davis2017', f'--data={root}/data', f'--out={out}', '--noreport']
    return script('evaluate.py', '--weights=giel_small', *flags)


def score(root, out):
    flags = ['--protocol=davis2017', f'--data={root}/data', f'--out={out}', '--noreport']
    return script('evaluate.py', f'--results={root}/masks', *flags)


def compare(root, out):
    return script('evaluate.py', f'--compare={root}/a,{root}/b', f'--out={out}')


def segment(root, out):
    flags = [f'--masks={root}/mask.png', f'--out={out}', '--short_side=0']
    return module('vos_jax.commands.segment', f'{root}/video', *flags)


def export(root, out):
    return module('vos_jax.commands.export', '--size=64x64', '--platforms=cpu', f'--out={out}')


def export_weights(root, out):
    return module('vos_jax.commands.export', f'--workdir={root}/run', f'--out={out}/w.npz')


def prepare(root, out):
    flags = [f'--source={root}/data', f'--out={out}', '--workers=1', '--resolution=64p']
    return module('vos_jax.commands.prepare', 'davis2017', *flags)


def make_up(root, out):
    flags = ['--num_train=1', '--num_val=1', '--frames=3', '--size=64x64']
    return module('vos_jax.commands.made_up', f'--out={out}', *flags)


def check(root, out):
    flags = ['--workers=1', '--resolution=64p', f'--preview={out}/clips.png']
    return module('vos_jax.commands.check', 'davis2017', f'--data={root}/data', *flags)


def import_weights(root, out):
    arguments = ['--format=stm', f'{root}/stm.pth', f'{out}/w.npz']
    return module('vos_jax.commands.import_weights', *arguments)


def demo(root, out):
    return module('vos_jax.commands.demo', f'--out={out}')


def studio(root, out):
    return module('vos_jax.commands.studio', f'{root}/video', f'--folder={out}', '--nobrowser')


def plan(root, out):
    flags = [f'--config={root}/recipe.py', '--nocompile', f'--out={out}/plan.json']
    return module('vos_jax.commands.plan', *flags)


# Those that load JAX before they can know are slow.
SLOW = {'train': train, 'plan': plan}
COMMANDS = SLOW | {
    'evaluate': evaluate,
    'score': score,
    'compare': compare,
    'segment': segment,
    'export': export,
    'export_weights': export_weights,
    'prepare': prepare,
    'make_up': make_up,
    'check': check,
    'import_weights': import_weights,
    'demo': demo,
    'studio': studio,
}


def named(names, slow=tuple(SLOW)):
    """Parameters of which some are slow, for what they load or since others are of their kind."""
    mark = pytest.mark.slow
    return [pytest.param(name, marks=mark if name in slow else ()) for name in names]


def run(command, timeout_s=120, **options):
    return subprocess.run(
        command, cwd=REPOSITORY, timeout=timeout_s, capture_output=True, text=True, **options
    )


def refuse(command, *words, **options):
    """Runs a command that must end with one line, soon: in seconds of the processor, so that a
    busy machine changes nothing.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run(command, **options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert_one_line(result, *words)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def drop_rights():
    """Root may read and write everything; without these capabilities files' rights hold for it."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def assert_one_line(result, *words):
    assert result.returncode == 2, result.stderr[-2000:]
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr[-2000:]
    assert lines[0].startswith('error: ')
    for word in words:
        assert word in lines[0]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))


# What is left of the commands is tested with buckets by their own tests.
@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'code'),
    [
        ('score', 0),
        ('compare', 0),
        ('make_up', 0),
        ('check', 1),  # the data set has not the published numbers
        ('demo', 2),
        ('studio', 2),
    ],
)
def test_an_output_in_a_bucket_is_stored_there_or_refused(inputs, gcs, name, code):
    place = gcs()
    result = run(COMMANDS[name](inputs, place.url))
    assert result.returncode == code, result.stderr
    assert not (REPOSITORY / 'gs:').exists()
    if code == 2:
        assert_one_line(result, place.url, 'a bucket; name a local folder')
    else:
        assert files(place.disk)


OUTPUTS = {
    'a file': lambda root: root / 'file',
    'below a file': lambda root: root / 'file' / 'out',
    'a link to itself': lambda root: root / 'loop',
    'a long name': lambda root: root / ('x' * 300),
    'below proc': lambda root: '/proc/none/out',
    'no right': lambda root: root / 'locked' / 'out',
}


@pytest.mark.parametrize(
    'kind', named(OUTPUTS, slow=('a link to itself', 'a long name', 'below proc'))
)
@pytest.mark.parametrize('name', named(COMMANDS))
def test_an_output_that_cannot_be_written_is_one_line(inputs, forks, tmp_path, name, kind):
    (tmp_path / 'file').write_text('of the user')
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'locked').mkdir(mode=0o555)
    out, before = OUTPUTS[kind](tmp_path), files(tmp_path)
    command = COMMANDS[name](inputs, out)
    if kind == 'no right':  # the one that says how long they take
        refuse(command, str(out), preexec_fn=drop_rights)
    else:
        assert_one_line(forks.run(command), str(out)[:200])
    assert files(tmp_path) == before
    assert (tmp_path / 'file').read_text() == 'of the user'


@pytest.mark.parametrize('name', named(COMMANDS))
def test_a_full_disk_is_one_line_before_the_work(inputs, forks, tmp_path, name):
    result = forks.run(COMMANDS[name](inputs, tmp_path / 'out'), before=fill_disk)
    assert_one_line(result, str(tmp_path / 'out'), 'File too large')
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('export_weights', 'w.npz'),
        ('import_weights', 'w.npz'),
        ('check', 'clips.png'),
        pytest.param('plan', 'plan.json', marks=pytest.mark.slow),
    ],
)
def test_a_folder_instead_of_an_output_file_is_one_line(inputs, forks, tmp_path, name, file):
    (tmp_path / file).mkdir()
    result = forks.run(COMMANDS[name](inputs, tmp_path))
    assert_one_line(result, str(tmp_path / file), 'a folder')
    assert files(tmp_path) == [file]


INPUTS = {  # what each command reads, below the folder of inputs
    'train': 'data',
    'evaluate': 'data',
    'score': 'masks',
    'compare': 'b',
    'segment': 'mask.png',
    'prepare': 'data',
    'check': 'data',
    'import_weights': 'stm.pth',
    'export_weights': 'run',
    'studio': 'video',
    'plan': 'recipe.py',
}
KINDS = ('missing', 'a link that leads nowhere', 'of the other kind', 'no right')


@pytest.mark.parametrize('kind', named(KINDS, slow=('a link that leads nowhere',)))
@pytest.mark.parametrize('name', named(INPUTS))
def test_an_input_that_cannot_be_read_is_one_line(inputs, forks, tmp_path, name, kind):
    root = tmp_path / 'in'
    shutil.copytree(inputs, root)
    path = root / INPUTS[name]
    was_folder = path.is_dir()
    if kind == 'no right':
        path.chmod(0)
    elif was_folder:
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == 'a link that leads nowhere':
        path.symlink_to('nowhere')
    elif kind == 'of the other kind' and was_folder:
        path.write_text('')
    elif kind == 'of the other kind':
        path.mkdir()
    command = COMMANDS[name](root, tmp_path / 'out')
    if kind == 'no right':
        result = run(command, preexec_fn=drop_rights)
        path.chmod(0o755)
    else:
        result = forks.run(command)
    assert_one_line(result, str(path))
    assert 'cannot be written' not in result.stderr
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def small_disk(tmp_path):
    """Returns a function that gives a folder with room for so many bytes, on a disk of its own."""
    mounted = []

    def mount(num_bytes):
        folder = tmp_path / f'disk{len(mounted)}'
        folder.mkdir()
        made = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={num_bytes}', 'none', folder],
            capture_output=True,
        )
        if made.returncode:
            pytest.skip('a small disk needs the right to mount one')
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(['umount', folder], check=True)


@pytest.mark.parametrize(
    ('name', 'num_bytes'),
    [
        ('make_up', 40_000),
        ('prepare', 16_000),
        ('score', 4096),
        *[
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (('train', 300_000), ('segment', 8192), ('export', 1_000_000))
        ],
    ],
)
def test_a_disk_that_becomes_full_is_one_line(inputs, small_disk, name, num_bytes):
    disk = small_disk(num_bytes)
    result = run(COMMANDS[name](inputs, disk / 'out'), timeout_s=400)
    errors = [line for line in result.stderr.splitlines() if not line.startswith('W')]
    assert result.returncode == 2, result.stderr[-2000:]
    assert len(errors) == 1
    assert 'No space left on device' in errors[0]
    assert not [name for name in files(disk) if name.endswith(('.tmp', '.part'))]
    assert not [name for name in files(disk) if 'checkpoint-tmp' in name]


@pytest.mark.parametrize(
    ('kind', 'words'), [('missing', 'no such file'), ('directory', 'a folder'), ('text', 'whole')]
)
def test_weights_that_cannot_be_read_are_one_line(inputs, forks, tmp_path, kind, words):
    path = tmp_path / 'w.npz'
    if kind == 'directory':
        path.mkdir()
    elif kind == 'text':
        path.write_text('no archive')
    command = [*segment(inputs, tmp_path / 'out'), f'--weights={path}']
    assert_one_line(forks.run(command), str(path), words)
    assert not (tmp_path / 'out').exists()


def test_numbers_that_are_none_are_one_line(inputs, forks, tmp_path):
    out = tmp_path / 'out'
    commands = {
        'segment': (
            segment(inputs, out),
            '--fps=nan --fps=inf --memory=99999999999999999999 --memory=1000000000'
            ' --state_every=nan --state_every=-1 --short_side=-1',
        ),
        'studio': (
            module('vos_jax.commands.studio', f'--folder={out}', '--nobrowser'),
            '--short_side=-1 --max_upload_mb=nan --max_upload_mb=inf --port=-1',
        ),
        'export': (
            module('vos_jax.commands.export', '--size=64x48', f'--out={out}'),
            '--platforms=nosuch --objects=0 --objects=255',
        ),
        'plan': (module('vos_jax.commands.plan', f'--out={out}'), '--price=nan --price=-1'),
        'status': (module('vos_jax.commands.status', str(out)), '--every=nan --every=0'),
    }
    for command, wrong in commands.values():
        for flag in wrong.split():
            name = flag.partition('=')[0].removeprefix('--')
            assert_one_line(forks.run([*command, flag]), name)
            assert not out.exists()
