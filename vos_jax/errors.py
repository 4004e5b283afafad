"""Errors of users' input, and how a command ends because of one."""

import sys

from absl import app, flags, logging


class InputError(ValueError):
    """Something the user gave is wrong: one line that says what, where, and what to do about it."""


def run_main(main):
    """Runs a command's `main(argv)`; wrong input becomes one line on stderr and exit code 2.

    Flags are parsed here, so an unknown flag or setting ends in the same way. Any other exception
    is a defect and keeps its traceback (exit code 1).
    """
    try:
        app.run(main, flags_parser=_parse_flags)
    except InputError as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        sys.exit(2)


def _parse_flags(argv):
    try:
        rest = flags.FLAGS(argv)
    # Config files and their overrides are read while flags are parsed: a misspelt setting is an
    # AttributeError or KeyError, a missing config file an OSError, a wrong type one of the rest.
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(one_line(error)) from error
    # What libraries tell below a warning (backends that JAX did not find, twenty lines of Orbax for
    # each checkpoint) is for those who ask for it.
    if flags.FLAGS['verbosity'].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING
    return rest


def one_line(error):
    """The message of an exception, without line breaks."""
    return ' '.join(str(error).split())


def first_line(error, most=200):
    """The first line of an exception's message, cut; its type where it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]
