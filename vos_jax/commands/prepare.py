"""Prepares a data set once: shards that training reads fast, on all cores, resumed after a kill.

  vos-prepare davis2017 --source=DAVIS --out=prepared
  vos-prepare davis2017 --download --out=prepared
  vos-prepare youtube_vos2018 --source=train.zip,valid.zip --out=prepared
  vos-prepare static_images --source=VOC2012,DUTS-TR,coco --out=prepared

Sources are folders, zip or tar archives, as published. The same command again resumes where it was
ended. Training reads the result with `kind='prepared'`; TFDS reads it too. docs/data.md has the
rest.
"""

import functools

from absl import flags as absl_flags

from vos_jax.commands import flags
from vos_jax.errors import InputError, run_main


def define_flags():
    from data_prep import download

    define = absl_flags.DEFINE_string
    absl_flags.DEFINE_list('source', [], 'folders, zip or tar archives of the data set')
    absl_flags.DEFINE_string('out', 'prepared', 'folder for prepared data sets')
    flags.define_data_set()
    flags.define_workers()
    absl_flags.DEFINE_bool('download', False, 'download DAVIS first')
    define('url', download.SERVER, 'where the archives of DAVIS are')
    define('sha256', None, 'checksum of the first archive, instead of the known one')
    define('download_dir', 'downloads', 'folder for downloaded archives')
    absl_flags.DEFINE_bool('beam', False, 'run on Apache Beam; see requirements-beam.txt')
    absl_flags.DEFINE_list('beam_options', [], 'options of the pipeline, as --runner=FlinkRunner')


def main(argv):
    from data_prep import prepare

    wanted = absl_flags.FLAGS
    name = flags.one_data_set(argv).name
    if wanted.download == bool(wanted.source):
        raise InputError('give --source=FOLDER_OR_ARCHIVE,... or, for DAVIS, --download')
    sources, run = wanted.source, None
    if wanted.download:
        from data_prep import download

        sources = download.download_davis(
            name,
            wanted.download_dir,
            splits=wanted.splits,
            resolution=wanted.resolution,
            server=wanted.url,
            sha256=wanted.sha256,
        )
    if wanted.beam:
        from data_prep import workers

        run = workers.beam_runner(wanted.beam_options)
    folder, index = prepare.prepare(
        name,
        sources,
        wanted.out,
        splits=wanted.splits,
        resolution=wanted.resolution,
        num_processes=flags.num_workers(wanted),
        run=run,
    )
    for split, part in index['splits'].items():
        frames = sum(len(video['frames']) for video in part['videos'])
        size = sum(shard['bytes'] for shard in part['shards']) / 1e6
        print(f'{split}: {len(part["videos"])} videos, {frames} frames, {size:.1f} MB')
    print(f'data set in {folder}')


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
