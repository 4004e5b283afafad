"""Writes shards on Apache Beam: the same function for the same jobs, so the same files.

Needs an environment of its own (requirements-beam.txt). The workers must see the sources and the
output under the same paths, on a shared file system.
"""

from vos_jax.errors import InputError


def runner(options):
    """Gives a function that calls `function(job)` for each of some jobs in a Beam pipeline.

    Args:
      options: texts of Beam's own options, such as '--runner=FlinkRunner'; without any, Beam's
        local runner.
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
