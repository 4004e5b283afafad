"""Commands that segment ask for huge pages, once."""

import os
import subprocess
import sys

import pytest

from vos_jax import huge_pages

SCRIPT = """
import os, sys
from vos_jax import huge_pages
print('started', flush=True)
huge_pages.restart()
print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:])
"""
needs_kernel = pytest.mark.skipif(
    not huge_pages._can_ask(), reason='no glibc 2.35, or a kernel that asks nobody'
)


def run(before='', **environment):
    plain = {k: v for k, v in os.environ.items() if k != huge_pages.VARIABLE}
    command = [sys.executable, '-c', before + SCRIPT, 'a b', '--c=']
    finished = subprocess.run(
        command, env={**plain, **environment}, capture_output=True, text=True, check=True
    )
    return finished.stdout.splitlines()


@needs_kernel
def test_a_command_starts_again_once_with_its_arguments():
    assert run() == ['started', 'started', f"{huge_pages.SETTING} ['a b', '--c=']"]


def test_what_the_user_sets_stays():
    assert run(GLIBC_TUNABLES='') == ['started', " ['a b', '--c=']"]


def test_a_process_with_jax_goes_on():
    assert run('import sys; sys.modules["jax"] = None') == ['started', "None ['a b', '--c=']"]
