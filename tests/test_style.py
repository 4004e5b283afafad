"""How large functions may get: lines, positional arguments, levels of nesting; and `make check`."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ('vos_jax', 'data_prep', 'benchmarks')
MOST_LINES, MOST_ARGUMENTS, MOST_LEVELS = 60, 6, 3

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def functions_of(tree, path=()):
    """('Class.method', node) of all functions of a module, nested ones included."""
    for node in ast.iter_child_nodes(tree):
        inner = path
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            inner = (*path, node.name)
        if isinstance(node, FUNCTIONS):
            yield '.'.join(inner), node
        yield from functions_of(node, inner)


def num_lines(function):
    return function.end_lineno - function.lineno + 1


def num_arguments(function):
    """Positional ones, without the object itself."""
    names = [argument.arg for argument in function.args.posonlyargs + function.args.args]
    return len(names) - (names[:1] in (['self'], ['cls']))


def num_levels(node):
    """Blocks and functions inside one another; `elif` goes on with its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        own = isinstance(child, (*BLOCKS, *FUNCTIONS)) and not is_elif
        deepest = max(deepest, own + num_levels(child))
    return deepest


def faults_of(source):
    """One line for each limit that a function of a module passes."""
    for name, function in functions_of(ast.parse(source)):
        for what, found, most in (
            ('lines', num_lines(function), MOST_LINES),
            ('positional arguments', num_arguments(function), MOST_ARGUMENTS),
            ('levels', num_levels(function), MOST_LEVELS),
        ):
            if found > most:
                yield f'{name}: {found} {what}, at most {most}'


@pytest.mark.parametrize('folder', FOLDERS)
def test_functions_are_short_flat_and_take_few_arguments(folder):
    files = sorted((REPOSITORY / folder).rglob('*.py'))
    assert files
    faults = [
        f'{path.relative_to(REPOSITORY)} {fault}'
        for path in files
        for fault in faults_of(path.read_text())
    ]
    assert not faults, '\n'.join(faults)


DEEP = """
class Reader:
    def read(self, a, b, c, d, e, f, *, g):
        for x in a:
            if x:
                pass
            elif b:
                pass
            else:
                with c:
                    {body}
"""


@pytest.mark.parametrize(
    ('body', 'fault'),
    [
        ('pass', []),
        ('return [x for x in d if x]', []),
        ('while d: pass', ['Reader.read: 4 levels, at most 3']),
        ('def inner(): pass', ['Reader.read: 4 levels, at most 3']),
        ('pass' + '\n' * 52 + ' ' * 20 + 'pass', ['Reader.read: 61 lines, at most 60']),
    ],
    ids=['as much as may be', 'a comprehension', 'a loop', 'a function', 'many lines'],
)
def test_what_counts_as_a_fault(body, fault):
    assert list(faults_of(DEEP.format(body=body))) == fault


def test_the_object_of_a_method_is_no_argument():
    method = DEEP.format(body='pass')
    assert list(faults_of(method.replace('self, a', 'self, z, a'))) == [
        'Reader.read: 7 positional arguments, at most 6'
    ]


@pytest.mark.skipif(not shutil.which('make'), reason='no make')
def test_make_check_names_tests_that_are_there():
    """pytest runs nothing where one is missing."""
    dry = ['make', '--dry-run', '--always-make', 'check']
    lines = subprocess.run(dry, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    named = [word for word in lines.split() if word.startswith('tests/')]
    assert len(named) > 20
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
