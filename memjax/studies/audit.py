"""Somebody else's models: a report without training anything."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from memjax import validate
from memjax import workdir as run_folder
from memjax.analysis import report
from memjax.analysis.memorization import analyze
from memjax.data.user_data import read_npy
from memjax.scores.memorization import ESTIMATORS, check_log_px

__all__ = ['run']


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Scores given log-probabilities and reports.

  Args:
    config: as in `configs/audit.py`.
    workdir: created if missing; refused if it belongs to another config.
  """
  validate.one_of('config.estimator', config.estimator, ESTIMATORS)
  validate.integer('config.num_permutations', config.num_permutations, 1)
  validate.integer('config.seed', config.seed, 0, 2**32 - 1)
  log_px, held_out, repeat = check_log_px(
    _load_required(config, 'log_px'),
    _load_required(config, 'held_out'),
    _load(config, 'repeat'),
  )
  num_items = log_px.shape[1]
  items = {
    name: _check_items(name, _load(config, name), num_items)
    for name in ('labels', 'ids', 'groups')
  }
  images = read_npy(config.images).images if config.images else None
  study = report.Study(
    name=pathlib.Path(config.log_px).stem,
    ids=np.arange(num_items) if items['ids'] is None else items['ids'],
    labels=items['labels'],
    images=_check_length('images', images, num_items),
    held_out=held_out,
    repeat=repeat,
    divergences=[],
    losses=None,
    estimates=None,
    num_samples=0,
  )
  data = run_folder.fingerprint(
    (log_px, held_out, repeat, study.images, *items.values())
  )
  # Nothing is kept that took time to compute: any setting may change.
  free = run_folder.flatten(config.to_dict(), 'config').keys()
  run_folder.claim(workdir, config.to_dict(), data, free=free)
  analysis = analyze(
    {0: log_px},
    held_out,
    repeat,
    estimator=config.estimator,
    num_permutations=config.num_permutations,
    seed=config.seed,
    groups=items['groups'],
  )
  report.write(workdir, study, analysis)


def _load_required(config: ConfigDict, name: str) -> np.ndarray:
  array = _load(config, name)
  if array is None:
    raise ValueError(
      f'config.{name}={config[name]!r}: expected the path of an .npy file.'
    )
  return array


def _load(config: ConfigDict, name: str) -> np.ndarray | None:
  path = config[name]
  if not path:
    return None
  try:
    array = np.load(path, allow_pickle=False)
  except ValueError as error:
    raise ValueError(
      f'config.{name}={path!r}: expected an .npy file of numbers; {error}.'
    ) from error
  if not isinstance(array, np.ndarray):
    raise ValueError(
      f'config.{name}={path!r}: expected an .npy file with one array, not .npz.'
    )
  return array


def _check_length(name, array, num_items: int) -> np.ndarray | None:
  if array is not None and len(array) != num_items:
    raise ValueError(
      f'config.{name} holds {len(array)} items: expected {num_items}, as '
      'log_px has.'
    )
  return array


def _check_items(name, array, num_items: int) -> np.ndarray | None:
  """Labels, ids or groups: one number or text an item, ids unique."""
  if _check_length(name, array, num_items) is None:
    return None
  if array.ndim != 1 or array.dtype.kind not in 'iuUS':
    raise ValueError(
      f'config.{name} has shape {array.shape} and dtype {array.dtype}: '
      f'expected {num_items} integers or texts.'
    )
  if name == 'ids' and len(np.unique(array)) < num_items:
    raise ValueError('config.ids holds an id twice: expected unique ids.')
  return array
