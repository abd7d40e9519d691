"""Files that are either whole or not there."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np

__all__ = ['save_arrays', 'write_atomically', 'write_json']


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


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON atomically, NaN as null."""
  text = json.dumps(_valid(content), indent=1, ensure_ascii=False) + '\n'
  write_atomically(path, lambda file: file.write(text.encode()))


def _valid(value: Any) -> Any:
  """The value with NaN and ±inf as None, and NumPy's types as Python's."""
  if isinstance(value, dict):
    return {str(key): _valid(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_valid(item) for item in value]
  if isinstance(value, np.ndarray):
    return _valid(value.tolist())
  if isinstance(value, np.generic):
    return _valid(value.item())
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value
