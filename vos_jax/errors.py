"""Errors of users' input, and how a command ends because of one."""

import errno
import io
import os
import re
import signal
import sys

from absl import app, flags, logging

# Not defects of the program: no right, no space, a read-only disk, a file in the way, a bad name.
_DISK_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO),
    *(errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    errno.ETXTBSY,
}
# What Orbax (ValueError) and ArrayRecord (RuntimeError) say where the disk refuses.
_DISK_WORDS = re.compile(
    'No space left on device|Disk quota exceeded|File too large|Read-only file system'
    '|Permission denied|File name too long|Input/output error'
)
# Packages that are not needed by everybody -> the extra of pyproject.toml that has them.
EXTRAS = {
    **dict.fromkeys(('optax', 'orbax', 'grain', 'ml_collections', 'clu', 'tensorboard'), 'train'),
    'simplejpeg': 'train',
    **dict.fromkeys(('tensorflow_datasets', 'array_record', 'scipy'), 'prepare'),
    **dict.fromkeys(('starlette', 'uvicorn'), 'studio'),
    'av': 'video',
    'flatbuffers': 'export',
    'libtpu': 'plan',
    'gcsfs': 'gcs',
    'torch': 'torch',
}
# Of the characters that Python calls printable those that show nothing: selectors and fillers.
_UNSEEN = re.compile(
    '[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]'
)


class InputError(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what to do about it.

    What cannot be seen in its text, which has names of files, is written out.
    """

    def __str__(self):
        return visible(super().__str__())


def run_main(main, define_flags=lambda: None):
    """Runs a command's `main(argv)`; wrong input becomes one line on stderr and exit code 2.

    Flags are parsed here, so an unknown flag or setting ends in the same way, and so does what the
    disk refuses, of an input or an output, a package that is not installed, and a device that is
    not there. Any other exception is a defect and keeps its traceback (exit code 1). `define_flags`
    is called here, not when its module is imported: two commands have flags of the same names.
    """
    _print_any_text()
    try:
        before = set(flags.FLAGS)
        define_flags()
        for name in set(flags.FLAGS) - before:  # --help lists what the program's own file defines
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
        if {'--help', '-h', '-help'} & set(sys.argv[1:]):
            print((sys.modules[main.__module__].__doc__ or '').strip())
            print(flags.FLAGS.main_module_help())
            return
        logging.get_absl_handler().addFilter(_is_no_disk_error)
        sys.unraisablehook = _report_unraisable
        app.run(main, flags_parser=_parse_flags)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        told = _told_in_one_line(error)
        if told is None:
            raise
        print(f'error: {told}', file=sys.stderr)
        sys.exit(2)


def _told_in_one_line(error):
    """What to say of an error that is no defect; None of one that is."""
    if isinstance(error, InputError):
        return one_line(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or '').partition('.')[0]
        extra = EXTRAS.get(package)
        return extra and f"{package} is not installed: pip install 'vos_jax[{extra}]'"
    if isinstance(error, AssertionError | RuntimeError) and _lacks_devices():
        wanted = os.environ.get('JAX_PLATFORMS')
        return (
            f'{f"JAX_PLATFORMS={wanted}" if wanted else "JAX"}: no such device can be used here '
            f'({first_line(error) if str(error) else "none was found"}); unset JAX_PLATFORMS, or '
            'install JAX for this device'
        )
    if isinstance(error, UnicodeEncodeError):
        return (
            f'{one_line(error)}: a name that cannot be read or written here, where names of files '
            f'are {sys.getfilesystemencoding()}; set PYTHONUTF8=1, or rename it in plain letters'
        )
    reason = disk_reason(error) if isinstance(error, OSError | ValueError | RuntimeError) else None
    if reason is None:
        return None
    place = getattr(error, 'filename', None)
    what = f'{place}: {reason}' if isinstance(place, str | os.PathLike) else one_line(error)
    return f'{what}; check its path, rights and space'


def _lacks_devices():
    """Whether JAX, where it is loaded, finds no device; for CUDA it says so by an assertion."""
    if 'jax' not in sys.modules:
        return False
    try:
        sys.modules['jax'].devices()
    except (AssertionError, RuntimeError):
        return True
    return False


def _print_any_text():
    """Names with letters that the terminal does not have are printed as codes, not refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def _is_no_disk_error(record):
    """On a full disk Orbax logs forty lines for each array; the error is raised as well."""
    return not (record.exc_info and record.exc_info[1] and disk_reason(record.exc_info[1]))


def _report_unraisable(unraisable):
    """On a full disk writes of Orbax end after their event loop; the error is raised as well."""
    if str(unraisable.exc_value) != 'Event loop is closed':
        sys.__unraisablehook__(unraisable)


def _parse_flags(argv):
    try:
        rest = flags.FLAGS(argv)
    # Config files and their overrides are read while flags are parsed: a misspelt setting is an
    # AttributeError or KeyError, a missing config file an OSError, a wrong type one of the rest.
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(one_line(error)) from error
    # What libraries print below a warning (backends that JAX did not find, 20 lines of Orbax for
    # each checkpoint) is for those who ask for it.
    if flags.FLAGS['verbosity'].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING
    return rest


def disk_reason(error):
    """Why the disk refuses, as 'No space left on device'; None where an error is none of the disk.

    >>> disk_reason(PermissionError(13, 'Permission denied', 'a.png'))
    'Permission denied'
    >>> disk_reason(ValueError('RESOURCE_EXHAUSTED: a/0.0: No space left on device [type=...]'))
    'No space left on device'
    """
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in _DISK_ERRORS else None
    found = _DISK_WORDS.search(str(error))
    return found and found[0]


def one_line(error):
    """The message of an exception, or a text, without line breaks."""
    return ' '.join(filter(None, map(str.strip, visible(str(error)).splitlines())))


def visible(text):
    r"""A text in which each character that cannot be seen is written out, but for line breaks.

    >>> print(visible('dog\u200b'))
    dog\u200b
    """
    return ''.join(
        c if c == '\n' or (c.isprintable() and not _UNSEEN.match(c)) else ascii(c)[1:-1]
        for c in text
    )


def first_line(error, most=200):
    """The first line of an exception's message, cut; its type where it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]
