"""Checks a data set, published or prepared: reads every file, compares with the published numbers.

  vos-check davis2017 --data=DAVIS
  vos-check youtube_vos2018 --data=prepared/youtube_vos2018 --preview=clips.png

Exit code 1 where anything is wrong; each problem is a line that names the file.
"""

import functools

from absl import flags as absl_flags

from vos_jax.commands import flags
from vos_jax.errors import InputError, one_line, run_main
from vos_jax.storage.disk import prepare_file


def define_flags():
    absl_flags.DEFINE_list('data', None, 'folders or archives, published or prepared')
    flags.define_data_set()
    flags.define_workers()
    absl_flags.DEFINE_bool('counts', True, 'compare with the published numbers')
    absl_flags.DEFINE_integer('show', 50, 'print up to N problems', lower_bound=0)
    absl_flags.DEFINE_string('preview', None, 'PNG for frames with their masks')
    absl_flags.DEFINE_integer('clips', 6, 'videos in it', lower_bound=1)


def main(argv):
    wanted = absl_flags.FLAGS
    if wanted.preview:
        if not wanted.preview.lower().endswith('.png'):
            raise InputError(f'--preview={wanted.preview}: name a file that ends in .png')
        prepare_file(wanted.preview, '--preview')
    from data_prep import check

    data_set, num_processes = flags.one_data_set(argv), flags.num_workers(wanted)
    flags.require(wanted, ('data',), 'docs/data.md')
    print(f'checking {data_set.name} in {", ".join(wanted.data)} with {num_processes} processes')
    found = check.check(
        data_set,
        wanted.data,
        splits=wanted.splits,
        resolution=wanted.resolution,
        num_processes=num_processes,
    )
    lines, problems = check.format_table(data_set, found, counts=wanted.counts)
    problems += [problem for part in found.values() for problem in part.problems]
    for line in problems[: wanted.show]:
        who = check.who_minds(line)
        print(one_line(f'{line} [{who}]' if who else line))
    if len(problems) > wanted.show:
        print(f'... and {len(problems) - wanted.show} more; --show={len(problems)} lists them')
    print('\n'.join(lines))
    if wanted.preview:
        groups, _ = check.list_groups(data_set, wanted.data, wanted.splits, wanted.resolution)
        check.write_preview(wanted.preview, next(iter(groups.values())), wanted.clips)
        print(f'pictures in {wanted.preview}')
    print('nothing is wrong' if not problems else f'{len(problems)} problems')
    return 1 if problems else 0


run = functools.partial(run_main, main, define_flags)

if __name__ == '__main__':
    run()
