"""Scores blocks of items with a group of models; the arrays that result."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from memjax.evaluate import rescore_unreliable
from memjax.training.programs import Programs, ScoringOptions

__all__ = ['absent', 'array_types', 'empty_arrays', 'load_part', 'score_block']

_TYPES = {
  'log_px': np.float64,
  'std_err': np.float32,
  'ess': np.float32,
  'pareto_k': np.float32,
  'is_reliable': np.bool_,
}


def score_block(
  programs: Programs,
  scoring: ScoringOptions,
  inputs: tuple[Any, jax.Array, jax.Array, jax.Array],
  items: range,
  *,
  is_last: bool,
) -> dict[str, np.ndarray]:
  """Estimates log p of consecutive items under all models of a group.

  Args:
    programs: of the group.
    scoring: as the programs were made.
    inputs: variables, images, ids, and the models' scoring keys.
    items: no more than a call of `programs.score` takes.
    is_last: at the last scored epoch what is not reliable is estimated anew,
      and the encoder's estimate is added where it is asked for.

  Returns:
    The arrays of `array_types`, [width, items].
  """
  variables, images, ids, keys = inputs
  start, size = jnp.int32(items.start), len(items)
  found = jax.device_get(programs.score(variables, images, ids, start, keys))
  arrays = {name: array[:, :size] for name, array in found._asdict().items()}
  if not is_last:
    return arrays

  def rescore(indices, round):
    indices = jnp.where(indices >= 0, start + indices, -1)
    return programs.rescore[round - 1](
      variables, images, ids, indices, keys, jnp.int32(round)
    )

  arrays = rescore_unreliable(
    rescore,
    arrays,
    block=scoring.rescored_at_once,
    num_rounds=len(programs.rescore),
  )
  if programs.score_by_encoder is not None:
    found = programs.score_by_encoder(variables, images, ids, start, keys)
    arrays['encoder_log_px'] = np.asarray(found.log_px)[:, :size]
  return arrays


def array_types(scoring: ScoringOptions, *, is_last: bool) -> dict[str, Any]:
  """The arrays of a scored epoch, with their types; the last has more."""
  types: dict[str, Any] = dict(_TYPES)
  if is_last:
    types['round'] = np.int32
    if scoring.encoder_num_samples:
      types['encoder_log_px'] = np.float64
  return types


def load_part(
  path: pathlib.Path, shape: tuple[int, int], types: dict[str, Any]
) -> tuple[dict[str, np.ndarray], int]:
  """Scores of a group that were saved, and how many items they cover."""
  if not path.exists():
    return empty_arrays(types, shape), 0
  try:
    with np.load(path) as saved:
      found = {name: saved[name] for name in types}
      done = int(saved['done'])
    if any(array.shape != shape for array in found.values()):
      raise ValueError(f'its arrays are not {shape}')
  except Exception as error:
    logging.error('%s cannot be used and is made again: %s.', path, error)
    return empty_arrays(types, shape), 0
  return found, done


def empty_arrays(
  types: dict[str, Any], shape: tuple[int, int]
) -> dict[str, np.ndarray]:
  """Arrays in which nothing is known yet."""
  return {
    name: np.full(shape, absent(dtype), dtype) for name, dtype in types.items()
  }


def absent(dtype) -> float | int:
  """What stands for a number that is not there."""
  return np.nan if np.issubdtype(dtype, np.floating) else 0
