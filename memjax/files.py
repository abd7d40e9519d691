"""Files that are either whole or not there."""

import os
import pathlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np

__all__ = ['save_arrays', 'write_atomically']


def write_atomically(path: pathlib.Path, write: Callable[[IO], object]) -> None:
  """Writes beside the path, then renames: a kill leaves the old file or none.

  Raises:
    OSError: if it could not be written; what was there before is intact.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + '.tmp')
  try:
    with temporary.open('wb') as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise OSError(
      error.errno,
      f'Could not write {path}: {error.strerror}. What was there before is '
      'intact; make room and run the same command again',
    ) from error


def save_arrays(path: pathlib.Path, **arrays: Any) -> None:
  """Writes an .npz file atomically."""
  write_atomically(path, lambda file: np.savez(file, **arrays))
