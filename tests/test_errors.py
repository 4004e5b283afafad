"""How a command ends when its input is wrong."""

import pytest

PROGRAM = """
from absl import flags, logging
from vos_jax.errors import InputError, run_main
flags.DEFINE_integer('count', 1, 'A number.')

def main(argv):
    logging.info('a backend was not found')
    if flags.FLAGS.count == 2:
        raise InputError('a.png: wrong\\nsize; resize it')
    if flags.FLAGS.count == 3:
        raise ValueError('a defect')
    if flags.FLAGS.count == 4:
        raise KeyboardInterrupt
    print('done', argv[1:])

run_main(main)
"""


@pytest.fixture
def run(run_python):
    return lambda *arguments: run_python(PROGRAM, *arguments)


def test_a_command_that_works_ends_with_0(run):
    result = run('--count=1', 'rest')
    assert (result.returncode, result.stdout, result.stderr) == (0, "done ['rest']\n", '')


def test_what_libraries_tell_is_shown_on_request(run):
    assert 'a backend was not found' in run('--count=1', '--verbosity=0').stderr


def test_wrong_input_is_one_line_and_2(run):
    result = run('--count=2')
    assert result.returncode == 2
    assert result.stderr == 'error: a.png: wrong size; resize it\n'


def test_a_defect_keeps_its_traceback_and_1(run):
    result = run('--count=3')
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert 'a defect' in result.stderr


def test_ctrl_c_ends_without_a_traceback(run):
    result = run('--count=4')
    assert (result.returncode, result.stderr) == (130, '')


@pytest.mark.parametrize(('flag', 'named'), [('--cout=1', 'cout'), ('--count=x', '--count=x')])
def test_a_wrong_flag_is_one_line_and_2(run, flag, named):
    result = run(flag)
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert named in result.stderr
    assert result.stderr.count('\n') == 1


def test_help_lists_the_flags(run):
    result = run('--help')
    assert '--count: A number.' in result.stdout


SEGMENT = """
from vos_jax.errors import run_main

def main(argv):
    import jax
    from vos_jax import compilation
    compilation.keep_compilations()
    jax.jit(lambda x: x + 1)(1)
    print('größe ① done')

run_main(main)
"""


@pytest.mark.parametrize('platforms', ['cuda', 'tpu', 'nosuch'])
def test_a_device_that_is_not_there_is_one_line_and_2(run_python, monkeypatch, platforms):
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
    result = run_python(SEGMENT)
    assert result.returncode == 2
    assert f'error: JAX_PLATFORMS={platforms}: no such device' in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_user_without_home_or_name_and_a_terminal_of_ascii(run_python, monkeypatch):
    for name in ('HOME', 'XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    unknown_user = 'import os\nos.getuid = lambda: 12345\n'
    result = run_python(unknown_user + SEGMENT)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout == 'gr\\xf6\\xdfe \\u2460 done\n'
