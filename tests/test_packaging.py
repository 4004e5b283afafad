"""What is installed: wheel, dependencies, commands, and what is said without an extra."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.training import micro
from tests.video import samples
from vos_jax import errors

PROJECT = tomllib.loads((REPOSITORY / 'pyproject.toml').read_text())['project']
COMMANDS = {
    name: target.partition(':')[0].rpartition('.')[2] for name, target in PROJECT['scripts'].items()
}
MODULES = {'opencv-python-headless': 'cv2', 'pillow': 'PIL', 'orbax-checkpoint': 'orbax'}


def bare(requirement):
    return re.match(r'[\w-]+', requirement)[0]


def module_of(requirement):
    name = bare(requirement)
    return MODULES.get(name, name.replace('-', '_'))


def test_requirements_txt_is_the_core_and_the_extras_of_training():
    lines = (REPOSITORY / 'requirements.txt').read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith('#')]
    extras = PROJECT['optional-dependencies']
    parts = [PROJECT['dependencies'], *(extras[n] for n in ('train', 'video', 'export', 'studio'))]
    assert sorted(listed) == sorted({requirement for part in parts for requirement in part})


def test_every_package_of_an_extra_is_known_to_the_message_that_names_it():
    extras = PROJECT['optional-dependencies']
    for extra in ('train', 'video', 'export', 'prepare', 'torch'):
        for requirement in extras[extra]:
            known = errors.EXTRAS[module_of(requirement)]
            assert any(bare(requirement) == bare(one) for one in extras[known]), requirement


# Blocked, as if it were not installed. flax brings optax and orbax with it.
OTHERS = sorted(set(errors.EXTRAS) | {'tensorflow'})
BLOCK = f'import sys; sys.modules.update(dict.fromkeys({OTHERS!r}))\n'


def test_importing_the_package_loads_no_arrays(run_python):
    code = 'import sys, vos_jax\nprint(sorted({"jax", "numpy", "flax", "absl"} & set(sys.modules)))'
    assert run_python(code).stdout.strip() == '[]'


def test_the_public_names_are_there(run_python):
    code = (
        'import vos_jax\n'
        'assert set(vos_jax.__all__) <= set(dir(vos_jax))\n'
        'print(*(getattr(vos_jax, name) is not None for name in vos_jax.__all__))\n'
    )
    assert run_python(code).stdout.split() == ['True'] * 5


def test_weights_open_and_a_segmenter_is_made_with_the_core_alone(run_python):
    code = BLOCK + (
        'import vos_jax\n'
        "model = vos_jax.open_model('giel_small')\n"
        'assert isinstance(model.segmenter(), vos_jax.Segmenter)\n'
        'print(model.config.model.name, len(model.fingerprint))'
    )
    result = run_python(code)
    assert result.stdout.split() == ['giel', '8'], result.stderr


@pytest.mark.parametrize('command', sorted({*COMMANDS.values()} - {'train'}))
def test_a_command_lists_its_flags_with_the_core_alone(run_python, command):
    code = BLOCK + (
        f"import runpy\nsys.argv = ['vos', '--help']\n"
        f"runpy.run_module('vos_jax.commands.{command}', run_name='__main__')"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert '--' in result.stdout


@pytest.mark.parametrize(
    ('command', 'flags', 'extra'),
    [
        ('train', ['--config=giel_small', '--workdir=none'], 'train'),
        ('export', ['--size=64x64', '--out=FOLDER'], 'export'),
        ('studio', ['--nobrowser', '--folder=FOLDER'], 'studio'),
        ('segment', ['clip.mp4', '--masks=first.png', '--out=FOLDER'], 'video'),
        ('evaluate', ['--workdir=none', '--protocol=davis2017', '--data=none'], None),
    ],
)
def test_a_missing_extra_is_one_line_with_its_name(run_python, tmp_path, command, flags, extra):
    flags = [flag.replace('FOLDER', str(tmp_path / 'out')) for flag in flags]
    code = BLOCK + (
        f'import runpy\nsys.argv = ["vos", *{flags!r}]\n'
        f"runpy.run_module('vos_jax.commands.{command}', run_name='__main__')"
    )
    result = run_python(code)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count('\n') == 1, result.stderr
    if extra:
        assert f"pip install 'vos_jax[{extra}]'" in result.stderr


def test_an_unknown_recipe_names_the_nearest(run_python, tmp_path):
    code = 'import runpy; runpy.run_module("vos_jax.commands.train", run_name="__main__")'
    result = run_python(code, '--config=giel_smal', f'--workdir={tmp_path / "run"}')
    assert result.returncode == 2
    assert "no recipe 'giel_smal'; nearest: 'giel_small'" in result.stderr


def test_a_missing_data_set_names_the_folder_of_data_and_what_gets_it(forks, tmp_path):
    command = [sys.executable, '-m', 'vos_jax.commands.train', '--config=giel_small:tiny']
    flags = [f'--workdir={tmp_path / "run"}', '--config.evaluation.sources={}']
    root = '--config.data.sources.synthetic.root=nowhere'
    data = str(tmp_path / 'data')
    result = forks.run([*command, root, *flags], VOS_DATA=data)
    assert result.returncode == 2
    assert result.stderr.count('\n') == 1
    for part in ('nowhere: no such folder', data, 'VOS_DATA', 'vos-prepare davis2017 --download'):
        assert part in result.stderr


# The wheel.


def build(source, out):
    """Builds the sdist of a folder, and the wheel of what the sdist holds; without a network."""
    program = (
        'import sys\nfrom setuptools import build_meta\nprint(build_meta.{}(sys.argv[1]))'.format
    )

    def run(kind, folder):
        done = subprocess.run(
            [sys.executable, '-c', program(f'build_{kind}'), out],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return out / done.stdout.splitlines()[-1]

    with tarfile.open(run('sdist', source)) as archive:
        archive.extractall(out, filter='data')
    (unpacked,) = (path for path in out.iterdir() if path.is_dir())
    return run('wheel', unpacked)


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """Folder of the commands of an environment that has the wheel, and else what this one has."""
    folder = tmp_path_factory.mktemp('installed')
    tracked = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert tracked.returncode == 0, tracked.stderr
    for name in tracked.stdout.splitlines():
        if (REPOSITORY / name).is_file() and not name.startswith(('tests/', 'docs/')):
            (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / 'source' / name)
    (folder / 'built').mkdir()
    wheel = build(folder / 'source', folder / 'built')
    venv.create(folder / 'venv', with_pip=True)
    python = folder / 'venv' / 'bin' / 'python'
    # Settings of this machine (a target, a prefix), and a vos_jax on PYTHONPATH or in the current
    # folder, which pip would take for this one and then install nothing, have no say.
    flags = ['--isolated', 'install', '--ignore-installed', '--no-deps', '--no-index']
    done = subprocess.run(
        [python, '-I', '-m', 'pip', *flags, wheel],
        cwd=folder,
        env={**os.environ, 'PIP_CONFIG_FILE': os.devnull},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / 'venv' / 'bin' / 'vos-segment').is_file(), done.stdout
    (site,) = (folder / 'venv').glob('lib/python*/site-packages')
    here = [path for path in sys.path if path.endswith('site-packages')]
    (site / 'of_the_tests.pth').write_text('\n'.join(here))
    return folder / 'venv' / 'bin'


@pytest.fixture
def call(installed, tmp_path):
    """Returns a function that runs an installed command, far from the checkout."""
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}

    def run(name, *arguments):
        done = subprocess.run(
            [installed / name, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_the_wheel_has_weights_recipes_and_pages(call):
    code = (
        'import vos_jax, vos_jax.recipe\n'
        'from vos_jax.evaluation.report import pages\n'
        'from pathlib import Path\n'
        'root = Path(vos_jax.__file__).parent\n'
        'weights = vos_jax.open_model("giel_small")\n'
        'print(root, vos_jax.recipe.find("giel_small"), weights.fingerprint)\n'
        'print(*(path.relative_to(root) for path in root.rglob("*") if path.is_file()))\n'
    )
    first, files = call('python', '-c', code).splitlines()
    root, recipe, _ = first.split()
    assert 'site-packages' in root
    assert Path(recipe).is_relative_to(root)
    needed = ('page/index.html', 'templates/report.js', 'vos_loader/loader.py', 'py.typed')
    for name in needed:
        assert any(path.endswith(name) for path in files.split()), name


@pytest.mark.slow
def test_the_wheel_segments_scores_and_trains(call, tmp_path):
    samples.write_mask(tmp_path / 'first.png')
    samples.write_video(tmp_path / 'clip.mp4', [samples.draw(n) for n in range(3)])
    call('vos-segment', 'clip.mp4', '--masks=first.png', '--out=segmented')
    assert len(list((tmp_path / 'segmented' / 'masks').glob('*.png'))) == 3

    root = micro.write_data(tmp_path / 'data' / 'made_up')
    masks = root / 'Annotations' / '64p'
    flags = ('--protocol=davis2017', f'--data={root}', '--resolution=64p', '--noreport')
    assert 'J&F-Mean' in call('vos-evaluate', f'--results={masks}', *flags, '--out=scored')

    settings = {**micro.SETTINGS, 'training.steps': 2, 'data.sources.synthetic.root': 'made_up'}
    overrides = [f'--config.{name}={value}' for name, value in settings.items()]
    where = ('--config=giel_small:tiny', '--workdir=run', '--config.evaluation.sources={}')
    call('vos-train', *where, *overrides)
    assert (tmp_path / 'run' / 'checkpoints' / 'latest' / '2').is_dir()
