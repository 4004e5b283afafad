"""Runs jobs in processes of their own, with progress; they end when this process does."""

import concurrent.futures
import multiprocessing
import os
import threading
import time

from vos_jax.errors import InputError

_COUNT = None


def run_jobs(function, jobs, num_processes, show):
    """Calls `function(job, report)` for each job.

    Args:
      function: of a module, so that other processes find it.
      jobs: list.
      num_processes: at most, one for each job; 1: in this process.
      show: called now and then with the number that all jobs reported together.

    Returns:
      What the calls returned, in the order of the jobs.
    """
    num_processes = max(min(num_processes, len(jobs)), 1)
    if num_processes == 1:
        total = 0

        def report(number):
            nonlocal total
            total += number
            show(total)

        return [function(job, report) for job in jobs]
    context = multiprocessing.get_context('spawn')
    count = context.Value('q', 0)
    with concurrent.futures.ProcessPoolExecutor(
        num_processes, context, _start, (count, os.getpid())
    ) as pool:
        futures = [pool.submit(_call, function, job) for job in jobs]
        try:
            _wait(futures, count, show)
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _wait(futures, count, show):
    waiting = futures
    while waiting:
        done, waiting = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_EXCEPTION)
        for future in done:
            try:
                future.result()
            except concurrent.futures.process.BrokenProcessPool:
                raise InputError(
                    'a worker process was killed, perhaps for want of memory; '
                    'run again with fewer --workers, what is done stays'
                ) from None
        show(count.value)


def _start(count, parent):
    global _COUNT
    _COUNT = count
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    """Ends this process when its parent is gone, which a killed parent cannot ask for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _call(function, job):
    def report(number):
        with _COUNT.get_lock():
            _COUNT.value += number

    return function(job, report)
