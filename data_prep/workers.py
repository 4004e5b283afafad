"""Runs jobs in processes of their own, with progress, or on Apache Beam."""

import concurrent.futures
import multiprocessing
import os

from vos_jax.errors import InputError
from vos_jax.storage.overlap import end_with

_COUNT = None


def run_jobs(function, jobs, num_processes, show):
    """Calls `function(job, report)` for each job; gives what the calls return, in order.

    Args:
      function: of a module, so that other processes find it.
      num_processes: at most, one for each job; 1: in this process.
      show: called now and then with the number that all jobs reported together.
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
    end_with(parent)


def _call(function, job):
    def report(number):
        with _COUNT.get_lock():
            _COUNT.value += number

    return function(job, report)


def beam_runner(options):
    """Gives a function that calls `function(job)` for each of some jobs on Apache Beam.

    Needs an environment of its own (requirements-beam.txt); the workers must see sources and output
    under the same paths. `options`: texts of Beam's own; without any, its local runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            f'--beam needs {error.name}: pip install -r requirements-beam.txt, in an environment '
            'of its own'
        ) from None

    def run(function, jobs):
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            # Reshuffled, so that shards are spread over workers instead of one fused stage.
            created = pipeline | 'shards' >> beam.Create(jobs) | beam.Reshuffle()
            _ = created | 'write' >> beam.Map(function)

    return run
