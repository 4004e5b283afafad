"""The processes that score."""

import subprocess
import sys

PROGRAM = """
import time
from vos_jax.evaluation.scoring import make_workers

if __name__ == '__main__':
    with make_workers(1) as workers:
        workers.submit(print, 'ready', flush=True).result()
        workers.submit(time.sleep, 60).result()
"""


def test_they_end_with_the_command_that_is_killed(tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / 'program.py')]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    process.kill()
    process.communicate(timeout=20)  # until nobody holds its output any more
