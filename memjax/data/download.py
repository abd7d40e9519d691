"""Verified, resumable downloads of public files. Standard library only."""

import gzip
import hashlib
import http.client
import io
import os
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from memjax.version import __version__

__all__ = ['fetch', 'open_plain', 'verify']

_CHUNK = 2**20  # bytes
_TIMEOUT = 30  # seconds without a byte
_INTERVAL = 3  # seconds between lines of progress

Report = Callable[[str], None]


def open_plain(path: str | Path) -> io.BufferedIOBase:
  """Opens a file for reading; X.gz (not .tar.gz) as its decompressed bytes."""
  name = Path(path).name.removesuffix('.part')
  if name.endswith('.gz') and not name.endswith('.tar.gz'):
    return gzip.open(path, 'rb')
  return open(path, 'rb')


def verify(path: str | Path, expected: str) -> None:
  """Raises ValueError unless the file's bytes are the published ones.

  Args:
    path: the file. What counts for X.gz is what it holds, because packers and
      mirrors compress anew.
    expected: the algorithm and the hexadecimal digest, 'sha256:…' or 'md5:…'.
  """
  algorithm, _, digest = expected.partition(':')
  found = _digest(path, algorithm)
  if found != digest:
    raise ValueError(
      f'{path} is not the published file: its {algorithm} is {found}, expected '
      f'{digest}.'
    )


def _digest(path: str | Path, algorithm: str) -> str:
  try:
    with open_plain(path) as file:
      return hashlib.file_digest(file, algorithm).hexdigest()
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    return f'unknown ({error})'


def fetch(
  urls: Sequence[str],
  path: str | Path,
  expected: str,
  *,
  report: Report | None = None,
) -> Path:
  """Downloads a file, or goes on with what an earlier call had begun.

  The bytes go to X.part; X appears, all at once, when the checksum is right.
  A bad X.part is deleted and never parsed.

  Args:
    urls: mirrors of one file, tried in turn.
    path: where to put it.
    expected: see `verify`.
    report: called with lines of progress; None writes them to stderr.

  Returns:
    `path`.

  Raises:
    ConnectionError: if no mirror gave the right bytes; it lists each failure.
  """
  path = Path(path)
  part = path.with_name(path.name + '.part')
  failures = []
  for url in urls:
    # Again: a transfer that broke goes on, one that went on from another
    # file's .part starts afresh.
    for _ in range(2):
      begun = part.exists()
      try:
        _transfer(url, part, report or _write_line)
        _verify_or_delete(part, expected)
        os.replace(part, path)
        return path
      except (ValueError, OSError, http.client.HTTPException) as error:
        failures.append(f'{url}: {error}')
        if not begun and not part.exists():
          break
  raise ConnectionError('\n'.join(failures))


def _verify_or_delete(part: Path, expected: str) -> None:
  try:
    verify(part, expected)
  except ValueError as error:
    part.unlink()
    logging.warning('%s Deleted.', error)
    raise


def _transfer(url: str, part: Path, report: Report) -> None:
  """Appends to `part` what it lacks; OSError if the server stops early."""
  start = part.stat().st_size if part.exists() else 0
  headers = {'User-Agent': f'memjax/{__version__}'}
  if start:
    headers['Range'] = f'bytes={start}-'
  request = urllib.request.Request(url, headers=headers)
  try:
    response = urllib.request.urlopen(request, timeout=_TIMEOUT)
  except urllib.error.HTTPError as error:
    error.close()
    # 416: there is nothing after `start`, so the checksum decides.
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      return
    raise
  with response:
    start = start if _continues(response, start) else 0
    length = response.headers.get('Content-Length')
    total = None if length is None else start + int(length)
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, 'r+b' if start else 'wb') as file:
      file.seek(start)
      report(f'Downloading {url} to {part}')
      size = _copy(response, file, start, total, report)
  if total is not None and size < total:
    raise OSError(f'the server stopped after {size} of {total} bytes')


def _continues(response: Any, start: int) -> bool:
  """Whether the server sends from `start` on; many ignore a Range."""
  sent = response.headers.get('Content-Range', '')
  is_partial = response.status == http.HTTPStatus.PARTIAL_CONTENT
  return start > 0 and is_partial and sent.startswith(f'bytes {start}-')


def _copy(
  response: Any, file: Any, start: int, total: int | None, report: Report
) -> int:
  """Writes what arrives; returns the file's size."""
  size, began = start, time.monotonic()
  told = began
  while chunk := response.read(_CHUNK):
    file.write(chunk)
    size += len(chunk)
    now = time.monotonic()
    if now - told >= _INTERVAL or size == total:
      report(_progress(size, total, (size - start) / max(now - began, 1e-9)))
      told = now
  return size


def _progress(size: int, total: int | None, rate: float) -> str:
  """One line: how much (bytes), how fast (bytes a second), how long still.

  Example:
    >>> _progress(20_000_000, 170_000_000, 5e6)
    '20.0 of 170.0 MB, 5.0 MB/s, 30 s left'
  """
  speed = f'{rate / 1e6:.1f} MB/s'
  if total is None:
    return f'{size / 1e6:.1f} MB, {speed}'
  left = (total - size) / max(rate, 1)
  return f'{size / 1e6:.1f} of {total / 1e6:.1f} MB, {speed}, {left:.0f} s left'


def _write_line(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
