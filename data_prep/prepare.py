"""Prepares a data set once: shards that training reads fast, on all cores, resumed after a kill.

  python -m data_prep.prepare davis2017 --source=DAVIS --out=prepared
  python -m data_prep.prepare davis2017 --download --out=prepared
  python -m data_prep.prepare youtube_vos2018 --source=train.zip,valid.zip --out=prepared
  python -m data_prep.prepare static_images --source=VOC2012,DUTS-TR,coco --out=prepared

Sources are folders, zip or tar archives, as published. The same command again goes on where it was
ended. Training reads the result with `kind='prepared'`; TFDS reads it too. Needs
requirements-data.txt. docs/data.md has the rest.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import sys
from pathlib import Path

from absl import flags

from data_prep import download, shards, workers
from data_prep.builders import DATA_SETS
from data_prep.builders.files import FileTree
from data_prep.builders.videos import find_problems
from vos_jax.data.shards import prepared
from vos_jax.errors import InputError, run_main
from vos_jax.storage import disk
from vos_jax.storage.progress import Progress


def prepare(name, sources, out, *, splits=(), resolution='', num_processes=1, run=None):
    """Prepares a data set, or goes on with it.

    Args:
      name: one of DATA_SETS.
      sources: folders or archives of the published data set.
      out: folder; the data set goes to `out/name/version`.
      splits: those wanted; (): all that are in the sources.
      resolution: of DAVIS: the folder below JPEGImages; '': 480p, or the only one.
      num_processes: processes to use.
      run: (function, jobs) -> None that calls `function(job)` for each job, in place of processes.

    Returns:
      (folder, content of its videos.json).
    """
    data_set, root = find_data_set(name), Path(out).absolute()
    disk.prepare_folder(root)
    folder = _version_folder(name, root)
    work = folder.with_name(f'{folder.name}.incomplete')
    options = {'resolution': resolution, 'splits': sorted(splits)}
    if folder.exists():
        return _prepared_before(folder, options)
    with disk.explain_disk_errors(root), _alone(work):
        trees = open_sources(data_set, sources, work / 'unpacked')
        videos = list_videos(data_set, trees, splits, {'resolution': resolution})
        jobs = shards.make_jobs(work, name, videos)
        shards.open_work(work, shards.plan_of(jobs, options))
        _describe(jobs, work, 'Apache Beam' if run else f'{num_processes} processes')
        _write(jobs, num_processes, run)
        shutil.rmtree(work / 'unpacked', ignore_errors=True)
        return folder, shards.finish(name, root, work, folder, jobs, options)


def find_data_set(name):
    """The data set of a name."""
    if name not in DATA_SETS:
        raise InputError(f"no data set '{name}'; one of {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def open_sources(data_set, sources, scratch):
    """Trees of files: one of all sources, or for still images one for each."""
    if data_set.name == 'static_images':
        return [FileTree([source], scratch / str(i)) for i, source in enumerate(sources)]
    return [FileTree(sources, scratch)]


def list_videos(data_set, trees, splits, options):
    """Videos of each split that is there; refuses what can be seen to be wrong already."""
    unknown = sorted(set(splits) - set(data_set.splits))
    if unknown:
        raise InputError(
            f"{data_set.name} has no split '{unknown[0]}'; one of {', '.join(data_set.splits)}"
        )
    found = {}
    for split in splits or data_set.splits:
        videos, problems = find_videos(data_set, trees, split, options)
        problems += [problem for video in videos for problem in find_problems(video)]
        if problems:
            more = f' ({len(problems) - 1} more: data_prep.check)' if problems[1:] else ''
            raise InputError(f'{problems[0]}{more}')
        if videos:
            found[split] = videos
        elif splits:
            raise InputError(f'{data_set.name}: no split {split} in {_names(trees)}')
    if not found:
        raise InputError(
            f'{data_set.name}: none of its splits {", ".join(data_set.splits)} in {_names(trees)}'
        )
    return found


def find_videos(data_set, trees, split, options):
    """(videos of a split in the order of their names, problems)."""
    listed = [data_set.list_split(tree, split, options) for tree in trees]
    videos = sorted((v for part, _ in listed for v in part), key=lambda video: video.name)
    problems = [problem for _, part in listed for problem in part]
    names = [video.name for video in videos]
    twice = sorted({a for a, b in itertools.pairwise(names) if a == b})
    return videos, problems + [f'{name}: two of that name; rename one source' for name in twice]


def _write(jobs, num_processes, run):
    todo = [job for group in jobs.values() for job in group]
    if run is not None:
        run(shards.write_shard, todo)
        return
    progress = Progress('videos', sum(len(job.videos) for job in todo))
    workers.run_jobs(shards.write_shard, todo, min(num_processes, len(todo)), progress.reach)
    progress.close()


def _describe(jobs, work, means):
    for split, group in jobs.items():
        num_videos = sum(len(job.videos) for job in group)
        done = sum(job.record.is_file() for job in group)
        print(f'{split}: {num_videos} videos in {len(group)} shards, {done} of them there already')
    print(f'writing to {work} with {means}', flush=True)


def _prepared_before(folder, options):
    _, index = prepared.read_index(folder)
    if index['options'] != options:
        raise InputError(
            f'{folder}: prepared already, with {index["options"]}; give another --out, or delete it'
        )
    print('prepared already')
    return folder, index


def _version_folder(name, root):
    try:
        from data_prep.builders import tfds_builders
    except ImportError as error:
        raise InputError(
            f'preparing needs {error.name}: pip install -r requirements-data.txt'
        ) from None
    return Path(tfds_builders.version_folder(name, root))


@contextlib.contextmanager
def _alone(work):
    """Refuses a second run on the same folder at the same time.

    Where the sources are refused before the writing begins, nothing is left behind.
    """
    missing = [path for path in (work.parent, *work.parent.parents) if not path.exists()]
    work.mkdir(parents=True, exist_ok=True)
    with open(work / shards.LOCK, 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f'{work}: another run writes there; wait for its end') from None
        try:
            yield
        except InputError:
            if not (work / shards.PLAN).exists():
                shutil.rmtree(work)
                with contextlib.suppress(OSError):  # another run has begun there
                    for path in missing:
                        path.rmdir()
            raise


def _names(trees):
    return ', '.join(source for tree in trees for source in tree.sources)


def _download(name, wanted):
    if not name.startswith('davis'):
        raise InputError(
            f'{name}: only DAVIS can be downloaded by a program; get the archives from '
            f'{find_data_set(name).homepage} and give them as --source'
        )
    resolution = 'Full-Resolution' if wanted.resolution == 'Full-Resolution' else '480p'
    archives = [f'DAVIS-2017-trainval-{resolution}.zip']
    if name == 'davis2017' and 'test_dev' in wanted.splits:
        archives.append('DAVIS-2017-test-dev-480p.zip')
    paths = []
    for archive in archives:
        progress = Progress(f'bytes of {archive}')
        url = f'{wanted.url.rstrip("/")}/{archive}'
        sha256 = wanted.sha256 if archive == archives[0] else None
        path, found = download.download(url, wanted.download_dir, sha256, progress.reach)
        print(f'{path}: sha256 {found}', flush=True)
        paths.append(path)
    return paths


def main(argv):
    """Prepares the data set that the arguments name."""
    wanted = flags.FLAGS
    if len(argv) != 2:
        raise InputError(f'give one data set; one of {", ".join(DATA_SETS)}')
    name = argv[1]
    find_data_set(name)
    if wanted.download == bool(wanted.source):
        raise InputError('give --source=FOLDER_OR_ARCHIVE,... or, for DAVIS, --download')
    sources = _download(name, wanted) if wanted.download else wanted.source
    run = None
    if wanted.beam:
        from data_prep import beam

        run = beam.runner(wanted.beam_options)
    folder, index = prepare(
        name,
        sources,
        wanted.out,
        splits=wanted.splits,
        resolution=wanted.resolution,
        num_processes=wanted.jobs,
        run=run,
    )
    for split, part in index['splits'].items():
        frames = sum(len(video['frames']) for video in part['videos'])
        size = sum(shard['bytes'] for shard in part['shards']) / 1e6
        print(f'{split}: {len(part["videos"])} videos, {frames} frames, {size:.1f} MB')
    print(f'data set in {folder}')


def _define_flags():
    flags.DEFINE_list('source', [], 'Folders, zip or tar archives of the data set as published.')
    flags.DEFINE_string('out', 'prepared', 'Folder for prepared data sets.')
    flags.DEFINE_list('splits', [], 'Splits to prepare; default: all that are there.')
    flags.DEFINE_integer('jobs', os.cpu_count(), 'Processes.', lower_bound=1)
    flags.DEFINE_string('resolution', '', "DAVIS: folder of frames; '': 480p or the only one.")
    flags.DEFINE_bool('download', False, 'Download DAVIS first.')
    flags.DEFINE_string('url', download.SERVER, 'Where the archives of DAVIS are.')
    flags.DEFINE_string('sha256', None, 'Checksum of the first archive, in place of the known one.')
    flags.DEFINE_string('download_dir', 'downloads', 'Folder for downloaded archives.')
    flags.DEFINE_bool('beam', False, 'Run on Apache Beam; see requirements-beam.txt.')
    flags.DEFINE_list('beam_options', [], 'Options of the pipeline, such as --runner=FlinkRunner.')


if __name__ == '__main__':
    # Spawned processes import this module under another name, and define nothing.
    _define_flags()
    sys.exit(run_main(main))
