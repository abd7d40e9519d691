"""Metrics as JSON lines: one object a line, so a torn last line is harmless."""

import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from memjax import files

__all__ = ['MetricsWriter', 'read_metrics']


class MetricsWriter:
  """Appends rows to a file, which is closed before `write_scalars` returns."""

  def __init__(self, path: pathlib.Path):
    self._path = pathlib.Path(path)

  def write_scalars(self, rows: list[dict[str, Any]]) -> None:
    """Appends rows. NaN and ±inf are written as null, which is valid JSON."""
    lines = [json.dumps(_finite(row), allow_nan=False) + '\n' for row in rows]
    with self._path.open('a') as file:
      file.write(''.join(lines))

  def keep(self, is_kept: Callable[[dict[str, Any]], bool]) -> None:
    """Drops the rows that a resumed run is going to write again."""
    rows = [row for row in read_metrics(self._path) if is_kept(row)]
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    files.write_atomically(self._path, lambda file: file.write(text.encode()))


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
  """All whole rows of a file; none if it does not exist."""
  path = pathlib.Path(path)
  if not path.exists():
    return []
  rows = []
  for line in path.read_text().splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      continue  # torn by a kill
  return rows


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
  return {
    name: None
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for name, value in row.items()
  }
