import os
import time

import numpy as np
import pytest

from benchmarks import measuring


def test_a_measured_function_runs_in_another_process():
    assert measuring.in_own_process(os.getpid) != os.getpid()


def test_wall_time_includes_waiting_and_cpu_time_does_not():
    _, wall, cpu = measuring.timed(time.sleep, 0.05)
    assert wall >= 0.05 > cpu


def test_a_row_has_median_and_smallest_in_milliseconds():
    row = measuring.summary_ms([(0.1, 0.2), (0.3, 0.2), (0.2, 0.5)])
    assert row == pytest.approx({'ms': 200, 'best_ms': 100, 'cpu_ms': 200})


def test_peak_memory_sees_an_array_that_is_gone():
    measuring.forget_peak_memory()
    before = measuring.peak_memory()['peak_mb']
    np.ones(2**25)  # 256 MB
    assert measuring.peak_memory()['peak_mb'] > before + 200


def test_a_table_lines_up_and_marks_what_is_missing(capsys):
    measuring.print_table([{'name': 'a', 'cpu_ms': 12.34}, {'name': 'long'}], 'name cpu_ms')
    assert capsys.readouterr().out == 'name  cpu ms\n   a    12.3\nlong       -\n'
