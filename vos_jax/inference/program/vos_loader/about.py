"""What an exported model is, and whether all files of its folder are whole."""

import json
import zlib
from pathlib import Path

FILE = 'about.json'
FORMAT = 1


def read_about(folder):
    """Values of about.json, once it and all files that it names agree with their checksums.

    Raises:
      ValueError: names the first file that is missing, damaged or of another export.
    """
    path = Path(folder) / FILE
    try:
        about = json.loads(path.read_bytes())
        form, files, wanted = about['format'], about['files'], about['checksum']
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f'{path}: not that of an export ({error}); export again') from error
    if form != FORMAT:
        raise ValueError(f'{path}: format {form}, this loader reads {FORMAT}; export again')
    if checksum_of(about) != wanted:
        raise ValueError(f'{path}: differs from its checksum; copy it again')
    for name, number in files.items():
        file = path.parent / name
        try:
            is_whole = zlib.crc32(file.read_bytes()) == number
        except OSError as error:
            raise ValueError(f'{file}: {error.strerror}; copy it again') from error
        if not is_whole:
            raise ValueError(f'{file}: differs from its checksum in {FILE}; copy it again')
    return about


def checksum_of(about):
    """CRC-32 of the values but for `checksum`."""
    values = {name: value for name, value in about.items() if name != 'checksum'}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
