"""Scores as they come in, a file a group and epoch, and the whole of them."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from memjax import files
from memjax.training.plan import LoopOptions
from memjax.training.programs import ScoringOptions

__all__ = ['Parts']

_TYPES = {
  'log_px': np.float64,
  'std_err': np.float32,
  'ess': np.float32,
  'pareto_k': np.float32,
  'is_reliable': np.bool_,
}

Arrays = dict[str, np.ndarray]


class Parts:
  """The partial scores of a run.

  Attributes:
    epochs: after which something is scored, in order.
  """

  def __init__(
    self, directory: pathlib.Path, options: LoopOptions, num_items: int
  ):
    self.epochs = sorted({*options.score_epochs, *options.tracked_epochs})
    self._directory = pathlib.Path(directory)
    self._options, self._num_items = options, num_items
    self._types = {
      epoch: _array_types(
        options.scoring, is_last=epoch == options.last_score_epoch
      )
      for epoch in self.epochs
    }

  def items(self, epoch: int) -> np.ndarray:
    """The rows of the data set that are scored after an epoch."""
    items = self._options.items_scored(epoch, self._num_items)
    return np.zeros(0, np.int64) if items is None else items

  def path(self, group: str, epoch: int) -> pathlib.Path:
    """Where a group's scores of an epoch are."""
    return self._directory / 'parts' / f'{group}_epoch_{epoch:04d}.npz'

  def outcome_path(self, group: str) -> pathlib.Path:
    """Where a process tells the others how a group of its own ended."""
    return self._directory / 'parts' / f'{group}.json'

  def load(self, group: str, epoch: int) -> tuple[Arrays, int]:
    """A group's arrays [models_at_once, items], and how many are done."""
    path, types = self.path(group, epoch), self._types[epoch]
    shape = (self._options.models_at_once, len(self.items(epoch)))
    if not path.exists():
      return _empty(types, shape), 0
    try:
      with np.load(path) as saved:
        found = {name: saved[name] for name in types}
        done = int(saved['done'])
      if any(array.shape != shape for array in found.values()):
        raise ValueError(f'its arrays are not {shape}')
    except Exception as error:
      logging.error('%s cannot be used and is made again: %s.', path, error)
      return _empty(types, shape), 0
    return found, done

  def save(self, group: str, epoch: int, arrays: Arrays, done: int) -> None:
    """Saves what of a group's items is done."""
    files.save_arrays(self.path(group, epoch), done=np.int64(done), **arrays)

  def missing(self, group: str, epoch: int) -> pathlib.Path | None:
    """The first file of epochs before this one that is not there in full."""
    for scored in self.epochs:
      if scored < epoch:
        if self.load(group, scored)[1] < len(self.items(scored)):
          return self.path(group, scored)
    return None

  def join(
    self,
    groups: Mapping[str, np.ndarray],
    num_models: int,
    excluded: np.ndarray,
  ) -> None:
    """Joins all groups into one file a scored epoch.

    Args:
      groups: the models of each by name; later attempts come later, and
        replace what they repeat.
      num_models: m.
      excluded: models whose rows are to be NaN.
    """
    for epoch in self.epochs:
      items = self.items(epoch)
      whole = _empty(self._types[epoch], (num_models, self._num_items))
      for group, models in groups.items():
        path = self.path(group, epoch)
        if not path.exists():  # its models all diverged before this epoch
          continue
        with np.load(path) as arrays:
          for field, array in whole.items():
            array[np.ix_(models, items)] = arrays[field][: len(models)]
      for array in whole.values():
        array[excluded] = _absent(array.dtype)
      files.save_arrays(
        self._directory / f'log_px_epoch_{epoch:04d}.npz', **whole
      )


def _array_types(scoring: ScoringOptions, *, is_last: bool) -> dict[str, Any]:
  """The arrays of a scored epoch, with their types; the last has more."""
  types: dict[str, Any] = dict(_TYPES)
  if is_last:
    types['round'] = np.int32
    if scoring.encoder_num_samples:
      types['encoder_log_px'] = np.float64
  return types


def _empty(types: dict[str, Any], shape: tuple[int, int]) -> Arrays:
  """Arrays in which nothing is known yet."""
  return {
    name: np.full(shape, _absent(dtype), dtype) for name, dtype in types.items()
  }


def _absent(dtype) -> float | int:
  """What stands for a number that is not there."""
  return np.nan if np.issubdtype(dtype, np.floating) else 0
