"""A run's folder: which config it belongs to, and what it ran on."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Collection, Iterator
from typing import Any

import jax
from absl import logging

from memjax import files
from memjax.version import __version__

__all__ = [
  'claim',
  'environment',
  'flatten',
  'lock',
]

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'scipy')


@contextlib.contextmanager
def lock(workdir: pathlib.Path, index: int = 0) -> Iterator[None]:
  """Keeps a second run out of the folder while inside.

  The system lets go of it when a process ends, however it ends. Where it has no
  such locks (Windows, some shared file systems) nothing is kept out.

  Args:
    workdir: created if missing, and removed if it stays empty.
    index: of this process among those that share the folder.

  Raises:
    ValueError: another run is at work there.
  """
  try:
    import fcntl
  except ImportError:
    yield
    return
  path = workdir / f'.lock_{index}'
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('a+') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise ValueError(
        f'workdir={str(workdir)!r}: another run is at work there '
        f'({file.read()}); wait for it, or pass another --workdir.'
      ) from error
    except OSError:
      logging.warning('%s cannot be locked: run one process there.', workdir)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {platform.node()}')
    file.flush()
    try:
      yield
    finally:
      path.unlink(missing_ok=True)
      with contextlib.suppress(OSError):
        workdir.rmdir()  # if nothing came of it


def claim(
  workdir: pathlib.Path,
  config: dict[str, Any],
  data: str,
  *,
  free: Collection[str] = (),
) -> None:
  """Makes the folder this config's, or refuses if it is another's.

  A folder in which nothing was computed yet belongs to whoever comes, each of
  several processes that share it alike.

  Args:
    workdir: created if missing.
    config: the resolved config, JSON values.
    data: fingerprint of the data, so that a changed file is noticed.
    free: keys, such as 'config.score.estimator', that may differ, because
      nothing that is kept depends on them.

  Raises:
    ValueError: naming each key that differs and both values.
  """
  path = workdir / 'config.json'
  record = _record(config, data)
  own = f'.{platform.node()}.{os.getpid()}'
  if not _holds_results(workdir) or not path.exists():
    files.write_json(path, record, own)
    return
  found = _read_record(path)
  _check_same(workdir, found, record, free)
  for key in ('versions', 'device'):
    before, now = found['ran_on'].get(key), record['ran_on'][key]
    if before != now:
      logging.warning(
        '%s was begun on %s, this is %s: numbers agree to a tolerance, not '
        'bit for bit.',
        workdir,
        before,
        now,
      )
  files.write_json(path, record, own)


def _record(config: dict[str, Any], data: str) -> dict[str, Any]:
  # Through JSON, so that tuples compare equal to the lists that they become.
  return json.loads(
    json.dumps({'config': config, 'data': data, 'ran_on': environment()})
  )


def _holds_results(workdir: pathlib.Path) -> bool:
  return any((workdir / name).exists() for name in ('checkpoints', 'arrays'))


def _check_same(
  workdir: pathlib.Path,
  found: dict[str, Any],
  record: dict[str, Any],
  free: Collection[str],
) -> None:
  """Raises ValueError, naming each key that differs and both values."""
  old = {**flatten(found['config'], 'config'), 'the data itself': found['data']}
  new = {
    **flatten(record['config'], 'config'),
    'the data itself': record['data'],
  }
  different = [
    f'{key}: {_shown(key, old)} there, {_shown(key, new)} now'
    for key in sorted(old.keys() | new.keys())
    if key not in free and old.get(key, ...) != new.get(key, ...)
  ]
  if different:
    raise ValueError(
      f'workdir={str(workdir)!r} holds a run of another config ('
      + '; '.join(different)
      + '). Pass another --workdir, or the same config.'
    )


def _shown(key: str, values: dict[str, Any]) -> str:
  """A value for an error; of the data's digest what tells two apart."""
  value = values.get(key, 'absent')
  return repr(value[:12] if key == 'the data itself' else value)


def _read_record(path: pathlib.Path) -> dict[str, Any]:
  try:
    record = json.loads(path.read_text())
    if {'config', 'data', 'ran_on'} <= record.keys():
      return record
  except (ValueError, AttributeError):
    pass
  raise ValueError(
    f'{path} is damaged or not of memjax. Pass another --workdir, or delete '
    'that folder.'
  )


def environment() -> dict[str, Any]:
  """Versions, device and commit: what a number depends on beside the config."""
  device = jax.devices()[0]
  return {
    'versions': {
      'memjax': __version__,
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
    'device': f'{jax.device_count()} × {device.device_kind} '
    f'({device.platform})',
    'commit': _commit(),
  }


def flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
  """Nested keys joined by dots, such as 'config.train.epochs'."""
  flat = {}
  for key, value in tree.items():
    name = f'{prefix}.{key}'
    flat |= flatten(value, name) if isinstance(value, dict) else {name: value}
  return flat


def _commit() -> str | None:
  """The checkout's commit, '+' if it has changes; None outside a checkout."""
  here = pathlib.Path(__file__).resolve().parent
  # An installed package may lie inside somebody else's repository.
  if not (here.parent / '.git').exists():
    return None
  try:
    described = subprocess.run(
      ['git', 'describe', '--always', '--dirty=+', '--abbrev=40'],
      cwd=here,
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return described.stdout.strip() or None
