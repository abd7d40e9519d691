"""Metrics as JSON lines: one object a line, so a torn last line is harmless."""

import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memjax import files

__all__ = ['MetricsWriter', 'join_metrics', 'metrics_path', 'read_metrics']


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
    _write(self._path, filter(is_kept, read_metrics(self._path)))


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


def metrics_path(workdir: pathlib.Path, process: int) -> pathlib.Path:
  """The file of one process; the first one's also holds what is joined."""
  name = f'metrics_process_{process}.jsonl' if process else 'metrics.jsonl'
  return pathlib.Path(workdir) / name


def join_metrics(workdir: pathlib.Path, owners: Mapping[str, int]) -> None:
  """Joins the files of all processes into the first one's.

  Args:
    workdir: of the study.
    owners: the process of each group; the first has all that are not named. A
      row that two files hold, because the number of processes changed, is
      taken from its owner's.
  """
  first = metrics_path(workdir, 0)
  others = sorted(pathlib.Path(workdir).glob('metrics_process_*.jsonl'))
  rows = {}
  for path in (first, *others):
    for row in read_metrics(path):
      key = (row['group'], row['epoch'], row['repeat'], row['fold'])
      own = metrics_path(workdir, owners.get(row['group'], 0))
      if key not in rows or path == own:
        rows[key] = row
  if others:
    in_order = sorted(rows.values(), key=lambda r: (r['group'], r['epoch']))
    _write(first, in_order)


def _write(path: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  files.write_atomically(path, lambda file: file.write(text.encode()))


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
  return {
    name: None
    if isinstance(value, float) and not math.isfinite(value)
    else value
    for name, value in row.items()
  }
