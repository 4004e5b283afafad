"""What is asked of malloc is done."""

import os
import subprocess
import sys

import pytest

from vos_jax import malloc

SCRIPT = """
import os, sys
from vos_jax import malloc
print('started', flush=True)
malloc.restart_with_huge_pages()
print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:])
"""
needs_kernel = pytest.mark.skipif(
    not malloc._can_ask(), reason='no glibc 2.35, or a kernel that asks nobody'
)


def run(before='', **environment):
    plain = {k: v for k, v in os.environ.items() if k != malloc.VARIABLE}
    command = [sys.executable, '-c', before + SCRIPT, 'a b', '--c=']
    finished = subprocess.run(
        command, env={**plain, **environment}, capture_output=True, text=True, check=True
    )
    return finished.stdout.splitlines()


@needs_kernel
def test_a_command_starts_again_once_with_its_arguments():
    assert run() == ['started', 'started', f"{malloc.SETTING} ['a b', '--c=']"]


def test_what_the_user_sets_stays():
    assert run(GLIBC_TUNABLES='') == ['started', " ['a b', '--c=']"]


def test_a_process_with_jax_goes_on():
    assert run('import sys; sys.modules["jax"] = None') == ['started', "None ['a b', '--c=']"]


KEEP = """
import resource
import numpy as np
from vos_jax import malloc

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):  # several at a time, or glibc keeps them by itself
        held = [np.ones(2**19, np.uint8) for _ in range(8)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
malloc.keep_freed()
faults()
print(before > 10 * faults())
"""


@needs_kernel
def test_freed_memory_is_kept_for_what_comes_next(run_python):
    assert run_python(KEEP).stdout == 'True\n'
