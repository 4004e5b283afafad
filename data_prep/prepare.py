"""Prepares a data set once: shards that training reads fast, on all cores, resumed after a kill.

The command is `vos-prepare` (vos_jax.commands.prepare).
"""

import contextlib
import itertools
import shutil
from pathlib import Path

from data_prep import shards, workers
from data_prep.builders import DATA_SETS
from data_prep.builders.files import FileTree
from data_prep.builders.videos import find_problems
from vos_jax.data import prepared
from vos_jax.errors import InputError
from vos_jax.storage import disk
from vos_jax.storage.disk import FolderLock
from vos_jax.storage.paths import is_bucket, path_of
from vos_jax.storage.progress import Progress


def prepare(name, sources, out, *, splits=(), resolution='', num_processes=1, run=None):
    """Prepares a data set, or resumes it.

    Args:
      name: one of DATA_SETS.
      sources: folders or archives of the published data set.
      out: folder; the data set goes to `out/name/version`.
      splits: those wanted; (): all that are in the sources.
      resolution: of DAVIS: the folder below JPEGImages; '': 480p, or the only one.
      num_processes: processes to use.
      run: (function, jobs) -> None that calls `function(job)` for each job, instead of processes.

    Returns:
      (folder, content of its videos.json).
    """
    data_set, out = find_data_set(name), path_of(out)
    if run is not None and is_bucket(out):
        raise InputError(f'{out}: workers of Beam need a folder that all see; upload it afterwards')
    options = {'resolution': resolution, 'splits': sorted(splits)}
    with disk.writing_to(out) as mirror:
        root = mirror.folder.absolute()
        folder = _version_folder(name, root)
        there = out / folder.relative_to(root)
        if (there / prepared.INDEX if is_bucket(out) else there).exists():
            return _prepared_before(there, options)
        index = _prepare(data_set, sources, folder, options, num_processes, run)
    return there, index


def _prepare(data_set, sources, folder, options, num_processes, run):
    name, root = data_set.name, folder.parent.parent
    work = folder.with_name(f'{folder.name}.incomplete')
    with _alone(work):
        trees = open_sources(data_set, sources, work / 'unpacked')
        videos = list_videos(data_set, trees, options['splits'], options)
        jobs = shards.make_jobs(work, name, videos)
        shards.open_work(work, shards.plan_of(jobs, options))
        _describe(jobs, work, 'Apache Beam' if run else f'{num_processes} processes')
        _write(jobs, num_processes, run)
        shutil.rmtree(work / 'unpacked', ignore_errors=True)
        return shards.finish(name, root, work, folder, jobs, options)


def find_data_set(name):
    if name not in DATA_SETS:
        raise InputError(f"no data set '{name}'; one of {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def open_sources(data_set, sources, scratch):
    """Trees of files: one of all sources, or for still images one for each."""
    if data_set.name == 'static_images':
        scratches = [scratch and scratch / str(number) for number in range(len(sources))]
        return [FileTree([source], own) for source, own in zip(sources, scratches)]
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
            more = f' ({len(problems) - 1} more: vos-check)' if problems[1:] else ''
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
        raise InputError(f"{error.name} is not installed: pip install 'vos_jax[prepare]'") from None
    return Path(tfds_builders.version_folder(name, root))


@contextlib.contextmanager
def _alone(work):
    """Refuses a second run on the same folder at the same time.

    Where the sources are refused before the writing begins, nothing is left behind.
    """
    missing = [path for path in (work.parent, *work.parent.parents) if not path.exists()]
    work.mkdir(parents=True, exist_ok=True)
    with FolderLock(work, 'wait for the end of the run that writes there'):
        try:
            yield
        except InputError:
            if not (work / shards.PLAN).exists():
                _remove(work, missing)
            raise


def _remove(work, folders):
    """Removes the folder of a run, and the folders above it that it has made."""
    shutil.rmtree(work)
    with contextlib.suppress(OSError):  # another run has begun there
        for path in folders:
            path.rmdir()


def _names(trees):
    return ', '.join(source for tree in trees for source in tree.sources)
