"""Files that are either whole or not there."""

import csv
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

import numpy as np

__all__ = [
  'fingerprint',
  'save_arrays',
  'write_atomically',
  'write_csv',
  'write_json',
]


def write_atomically(
  path: pathlib.Path, write: Callable[[IO], object], writer: str = ''
) -> None:
  """Writes beside the path, then renames: a kill leaves the old file or none.

  Args:
    path: its folder is made if missing.
    write: given the open file.
    writer: who writes, where several processes may write the same at once.

  Raises:
    OSError: if it could not be written; what was there before is intact.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}{writer}.tmp')
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


def fingerprint(arrays: Iterable[Any]) -> str:
  """SHA-256 of arrays' dtypes, shapes and values, in their order; None counts.

  >>> import numpy as np
  >>> fingerprint([np.zeros(2), None])[:8]
  '580b2d1e'
  """
  digest = hashlib.sha256()
  for array in arrays:
    if array is None:
      digest.update(b'none')
    else:
      array = np.asarray(array)
      digest.update(f'{array.dtype}{array.shape}'.encode())
      digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def save_arrays(path: pathlib.Path, **arrays: Any) -> None:
  """Writes an .npz file atomically."""
  write_atomically(path, lambda file: np.savez(file, **arrays))


def write_csv(path: pathlib.Path, columns: Mapping[str, Iterable]) -> None:
  """Writes named columns; floats in full: reading gives the same bits."""
  cells = [np.asarray(column).tolist() for column in columns.values()]
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(columns)
  writer.writerows(zip(*cells, strict=True))
  content = text.getvalue().encode()
  write_atomically(path, lambda file: file.write(content))


def write_json(path: pathlib.Path, content: Any, writer: str = '') -> None:
  """Writes JSON atomically, NaN as null."""
  text = json.dumps(_valid(content), indent=1, ensure_ascii=False) + '\n'
  write_atomically(path, lambda file: file.write(text.encode()), writer)


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
