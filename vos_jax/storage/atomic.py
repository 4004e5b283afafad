"""Files appear whole or not at all."""

import os
import uuid
from pathlib import Path


def write_atomically(path, data):
    """Writes bytes under a temporary name in the same folder, then renames.

    Args:
      path: file to write; missing folders are made.
      data: bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
