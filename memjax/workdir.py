"""A run's folder: which config it belongs to, and what it ran on."""

import hashlib
import importlib.metadata
import json
import pathlib
import platform
import subprocess
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from absl import logging

from memjax import files

__all__ = ['claim', 'environment', 'fingerprint', 'flatten', 'write_json']

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'scipy')


def claim(workdir: pathlib.Path, config: dict[str, Any], data: str) -> None:
  """Makes the folder this config's, or refuses if it is another's.

  Args:
    workdir: created if missing.
    config: the resolved config, JSON values.
    data: fingerprint of the data, so that a changed file is noticed.

  Raises:
    ValueError: naming each key that differs and both values.
  """
  path = workdir / 'config.json'
  # Through JSON, so that tuples compare equal to the lists that they become.
  record = json.loads(
    json.dumps({'config': config, 'data': data, 'ran_on': environment()})
  )
  if not path.exists():
    write_json(path, record)
    return
  found = json.loads(path.read_text())
  old = {**flatten(found['config'], 'config'), 'the data itself': found['data']}
  new = {
    **flatten(record['config'], 'config'),
    'the data itself': record['data'],
  }
  different = [
    f'{key}: {old.get(key, "absent")!r} there, {new.get(key, "absent")!r} now'
    for key in sorted(old.keys() | new.keys())
    if old.get(key, ...) != new.get(key, ...)
  ]
  if different:
    raise ValueError(
      f'workdir={str(workdir)!r} holds a run of another config ('
      + '; '.join(different)
      + '). Pass another --workdir, or the same config.'
    )
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


def environment() -> dict[str, Any]:
  """Versions, device and commit: what a number depends on beside the config."""
  device = jax.devices()[0]
  return {
    'versions': {
      'memjax': importlib.metadata.version('memjax'),
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
    'device': f'{jax.device_count()} × {device.device_kind} '
    f'({device.platform})',
    'commit': _commit(),
  }


def fingerprint(arrays: Iterable[np.ndarray | None]) -> str:
  """SHA-256 of some arrays, such as a Dataset, in their order."""
  digest = hashlib.sha256()
  for array in arrays:
    if array is None:
      digest.update(b'none')
    else:
      digest.update(f'{array.dtype}{array.shape}'.encode())
      digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON atomically, NaN as null."""
  text = json.dumps(_valid(content), indent=1, ensure_ascii=False) + '\n'
  files.write_atomically(path, lambda file: file.write(text.encode()))


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


def flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
  """Nested keys joined by dots, such as 'config.train.epochs'."""
  flat = {}
  for key, value in tree.items():
    name = f'{prefix}.{key}'
    flat |= flatten(value, name) if isinstance(value, dict) else {name: value}
  return flat


def _commit() -> str | None:
  """The checkout's commit, '+' if it has changes; None outside a checkout."""
  here = pathlib.Path(__file__).parent
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
