"""Flags that several commands have, each with one meaning and one default."""

import math
import os
import sys

from absl import flags

from vos_jax.errors import InputError

PRETRAINED = 'giel_lite'


def define_model():
    """--weights, --workdir, --step and --memory: which model, and what it remembers."""
    flags.DEFINE_string('weights', None, f"file of weights, or a name as '{PRETRAINED}'")
    flags.DEFINE_string('workdir', None, 'folder of a training run')
    flags.DEFINE_string('step', 'best', '--workdir: best, latest, or a step')
    flags.DEFINE_integer(
        'memory', None, 'frames read at once; default: as the weights say', 1, 1000
    )


def define_short_side(default, text='0: as they are'):
    """--short_side: the size of frames where the model works; --size is WIDTHxHEIGHT everywhere."""
    flags.DEFINE_integer('short_side', default, f'shorter side of the frames for the model; {text}')
    flags.DEFINE_string('size', None, 'now --short_side')
    flags.register_validator(
        'size',
        lambda size: size is None,
        'give the shorter side by --short_side, as --short_side=480',
    )


def define_number(name, default, text, least):
    """A finite number of at least `least`; absl's bounds let nan pass."""
    flags.DEFINE_float(name, default, text, lower_bound=least)
    flags.register_validator(
        name, lambda value: value is None or math.isfinite(value), 'needed: a finite number'
    )


def define_workers():
    """--workers: how many processes share work on the CPU."""
    flags.DEFINE_integer('workers', None, 'processes; default one per core', 1, 1000)


def num_workers(wanted):
    return wanted.workers or len(os.sched_getaffinity(0))


def define_data_set():
    """--splits and --resolution: what of a data set, published or prepared."""
    flags.DEFINE_list('splits', [], 'splits; default: all that are there')
    flags.DEFINE_string('resolution', '', 'DAVIS: folder of frames; default 480p or the only one')


def one_data_set(argv):
    from data_prep.builders import DATA_SETS
    from data_prep.prepare import find_data_set

    if len(argv) != 2:
        raise InputError(f'give one data set; one of {", ".join(DATA_SETS)}')
    return find_data_set(argv[1])


def define_processes():
    """Flags by which several processes find each other, and what they share."""
    flags.DEFINE_string(
        'compilation_cache', None, 'folder for compiled programs, local or gs://; default ~/.cache'
    )
    flags.DEFINE_string(
        'coordinator_address', None, 'HOST:PORT of process 0, where the environment does not say'
    )
    flags.DEFINE_integer('num_processes', None, 'processes in all', lower_bound=1)
    flags.DEFINE_integer('process_id', None, 'number of this process, from 0', lower_bound=0)


def values(wanted):
    """Values of the command's own flags, without those of absl, by name as '--out'."""
    own = wanted.get_key_flags_for_module(sys.argv[0])
    return {f'--{flag.name}': flag.value for flag in own}


def require(wanted, names, see):
    """Refuses a command line without one of the flags; `see` says where to read on."""
    for name in names:
        if not wanted[name].value:
            raise InputError(f'--{name} is missing; see {see}')


def refuse_arguments(argv, remedy='all arguments are --flags'):
    if len(argv) > 1:
        raise InputError(f'{argv[1]}: unexpected argument; {remedy}')


def check_model(wanted):
    """Refuses what contradicts or is not there, before anything is loaded."""
    if wanted.weights and wanted.workdir:
        raise InputError('--weights and --workdir are both given; choose one')
    if not wanted.workdir and not wanted['step'].using_default_value:
        raise InputError('--step is of a run; name one by --workdir')
    from vos_jax import recipe, weights

    if wanted.workdir:
        recipe.stored(wanted.workdir)
    elif wanted.weights:
        weights.find(wanted.weights)


def open_model(wanted):
    """The TrainedModel that --weights, or --workdir and --step, and --memory name."""
    # Here: jax takes its time, and what is wrong with the input is reported before.
    from vos_jax import compilation, trained

    compilation.keep_compilations()
    if wanted.workdir:
        step = int(wanted.step) if wanted.step.isdecimal() else wanted.step
        model = trained.open_run(wanted.workdir, step)
    else:
        model = trained.open_model(wanted.weights or PRETRAINED)
    return model.with_memory(wanted.memory)


def join_processes(wanted, **options):
    """Joins the processes of a command, where there are several; to be called before JAX computes.

    Returns:
      The module `processes`. `options` are those of its `initialize`.
    """
    from vos_jax import compilation, processes

    compilation.keep_compilations(wanted.compilation_cache)
    processes.initialize(
        wanted.coordinator_address, wanted.num_processes, wanted.process_id, **options
    )
    return processes
