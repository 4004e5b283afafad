"""PyAV, whose wheels carry FFmpeg's libraries: only who reads or writes video files needs it."""

from vos_jax.errors import InputError

try:
    import av
except ImportError:
    av = None


def require(remedy='or give a folder of frames'):
    """The module `av`.

    Raises:
      InputError: where it is not installed.
    """
    if av is None:
        raise InputError(
            "av, which reads and writes video, is not installed: pip install 'vos_jax[video]', "
            f'{remedy}'
        )
    return av
