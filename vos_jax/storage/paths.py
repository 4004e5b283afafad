"""Paths of files: local ones, and those in a bucket of Google Cloud Storage (gs://BUCKET/...).

A local path is a pathlib.Path, and nothing here makes it slower. One in a bucket is etils' epath,
which has the same methods for what a bucket can do: objects appear whole or not at all, and there
is no renaming, appending or locking. A folder that grows is written through `storage.mirror`.
"""

import contextlib
import functools
import io
import os
import re
import uuid
from pathlib import Path
from typing import Any

from vos_jax.errors import InputError

_BUCKET = re.compile('gs:(/+|$)')  # one slash is left where it was made a Path
_MISSING = 'no such bucket or object; check the name, or gcloud storage buckets create'
_CODE = r"(?:^\w+: |, (?=\d+$)|response_code=')(?:{})\b"  # of HTTP: a step may be called 404 too
# What gcsfs, Google's client and TensorStore say; the first that is found counts.
_REASONS = (
    (
        'Anonymous caller|UNAUTHENTICATED|invalid_grant|DefaultCredentials|RefreshError|'
        + _CODE.format('401'),
        'no valid credentials; gcloud auth application-default login, or a machine with a service '
        'account that may use the bucket',
    ),
    (
        'Forbidden|PERMISSION_DENIED|does not have storage|' + _CODE.format('403'),
        'no permission; give the account the role Storage Object User on the bucket',
    ),
    ('FileNotFound|NOT_FOUND|does not exist|' + _CODE.format('404'), _MISSING),
    (
        'Connect|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|RESOURCE_EXHAUSTED|INTERNAL:|Timeout|'
        'Disconnected|Retry|ProxyError|ClientPayload|Transport|SSLError|Chunked|ChecksumError|'
        + _CODE.format('408|429|50[0-4]'),
        'the service does not answer, after several tries; check the network, and run the same '
        'command again',
    ),
)
_CLIENTS = ('aiohttp', 'gcsfs', 'google', 'requests', 'urllib3')


def path_of(name) -> Any:
    """The path that a name stands for: a pathlib.Path, or an epath of gs://BUCKET/NAME.

    Raises:
      InputError: for a bucket of another kind, or a name that gcsfs takes for a pattern, or
        TensorStore for more than a name.
    """
    text = os.fspath(name)
    if _BUCKET.match(text):
        there = text.partition('/')[2].lstrip('/')
        if not there.partition('/')[0]:
            raise InputError(f'{text}: names no bucket; needed: gs://BUCKET/NAME')
        # Removing would remove all that fits; TensorStore would cut at #, and go up at a part `..`.
        if found := re.search(r'[*?[#]|(?<![^/])\.\.(?![^/])', there):
            raise InputError(f"{text}: has '{found[0]}'; name it without * ? [ # ..")
        return _client()[0]('gs://' + there)
    if re.match(r'\w\w+:/', text):
        raise InputError(f'{text}: not a folder, nor gs://; mount the bucket (docs/tpu_pods.md)')
    return Path(name)


def is_bucket(name):
    """Whether a path is one of gs://."""
    return bool(_BUCKET.match(os.fspath(name)))


def absolute(path) -> Any:
    """The path from the root on; of a bucket it is that always."""
    return path if is_bucket(path) else Path(path).resolve()


def local(name, flag):
    """The Path of what can be local only; refuses a bucket."""
    if is_bucket(name):
        raise InputError(f'{flag} is {name}, a bucket; name a local folder')
    return Path(name)


def probe_bucket(folder):
    """Writes an object into a folder of a bucket and removes it: a refusal comes at once."""
    with explained(folder):
        probe = folder / f'.probe.{uuid.uuid4().hex[:8]}.tmp'
        probe.write_bytes(b'0')
        probe.unlink()


def check_object(path):
    """Refuses what names a bucket alone where an object is needed."""
    if is_bucket(path) and '/' not in str(path).removeprefix('gs://').rstrip('/'):
        raise InputError(f'{path}: a bucket; name a file in it, gs://BUCKET/NAME')


def open_whole(path):
    """A file to read from at any place; that of a bucket is fetched whole first."""
    path = path_of(path)
    check_object(path)
    if is_bucket(path):
        return io.BytesIO(path.read_bytes())
    return open(path, 'rb')


def file_system():
    """fsspec's file system of buckets, the one that epath uses."""
    return _client()[1]


@functools.cache
def _client():
    import logging

    try:
        import fsspec.config
        from etils import epath
        from etils.epath import backend

        # Its listings would be those from before: TensorStore and other processes write there too.
        fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False
        logging.getLogger('gcsfs').setLevel(logging.CRITICAL)  # the error is raised as well
        return epath.Path, backend.fsspec_backend.fs('gs://')
    except ImportError as error:
        raise InputError("gs:// needs gcsfs: pip install 'vos_jax[gcs]'") from error


@contextlib.contextmanager
def explained(path, what='cannot be written'):
    """A context in which what a bucket refuses is an InputError; nothing for a local path."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = bucket_reason(error) if is_bucket(path) else None
        if reason is None:
            raise
        raise InputError(f'{path}: {what}: {reason}') from error


def bucket_reason(error):
    """Why a bucket refuses, and what to do; None where an error is none of a bucket's.

    >>> bucket_reason(OSError('Forbidden: b/a/o'))
    'no permission; give the account the role Storage Object User on the bucket'
    """
    text = f'{type(error).__name__}: {error}'
    module = type(error).__module__.partition('.')[0]
    # Orbax's wait for another process, which has died; and a device has words like a bucket's.
    if 'barrier' in text or module in ('jax', 'jaxlib'):
        return None
    is_of_client = module in _CLIENTS
    is_without_file = isinstance(error, OSError) and error.errno is None
    is_named = re.search('gs://|/b/|googleapis|http_response', text)
    if not (is_of_client or is_without_file or is_named):
        return None
    return next((reason for words, reason in _REASONS if re.search(words, text)), None)


def refusal(path, error):
    """`bucket_reason`, but None of what is not in the bucket, and of a local path."""
    reason = bucket_reason(error) if is_bucket(path) else None
    return None if reason == _MISSING else reason
