"""How many cases, and from which seed: VOS_FUZZ_CASES and VOS_FUZZ_SEED."""

import os
import resource

import pytest

CASES = int(os.environ.get('VOS_FUZZ_CASES', 2000))  # of all targets together
SEED = int(os.environ['VOS_FUZZ_SEED'])  # set in tests/conftest.py, and named in the log
_MEMORY = 4 * 2**30  # bytes that a reader may take beyond what the process has


@pytest.fixture(autouse=True)
def bounded_memory():
    """A reader that takes what a file promises fails here, and not in the machine's memory."""
    with open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
